# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.tflite.macs import macs


@pytest.mark.parametrize(
    ("operator", "inputs", "output", "expected"),
    [
        # Each of the 5·5·4 values takes 3·3·2 products.
        ("CONV_2D", [(1, 5, 5, 2), (4, 3, 3, 2), (4,)], (1, 5, 5, 4), 1_800),
        # In two groups each value depends on one of the two input channels.
        ("CONV_2D", [(1, 5, 5, 2), (4, 3, 3, 1), (4,)], (1, 5, 5, 4), 900),
        ("DEPTHWISE_CONV_2D", [(1, 4, 4, 6), (1, 3, 3, 6), (6,)], (1, 2, 2, 6), 216),
        ("FULLY_CONNECTED", [(1, 8), (4, 8), None], (1, 4), 32),
        ("FULLY_CONNECTED", [(3, 8), (4, 8)], (3, 4), 96),
        # Each of the 2·2·3 inputs is spread over 3·3 positions of 5 channels.
        ("TRANSPOSE_CONV", [(4,), (5, 3, 3, 3), (1, 2, 2, 3)], (1, 4, 4, 5), 540),
        ("CONV_3D", [(1, 2, 4, 4, 3), (2, 1, 1, 3, 7)], (1, 1, 4, 4, 7), 672),
        ("BATCH_MATMUL", [(2, 3, 5), (2, 5, 7)], (2, 3, 7), 210),
        ("ADD", [(1, 8), (1, 8)], (1, 8), 0),
    ],
)
def test_macs_equal_those_counted_by_hand(operator, inputs, output, expected):
    assert macs(operator, inputs, [output]) == expected


def test_macs_of_a_transposed_left_operand():
    assert macs("BATCH_MATMUL", [(2, 5, 3), (2, 5, 7)], [(2, 3, 7)], transposed=True) == 210


@pytest.mark.parametrize(
    ("operator", "inputs", "message"),
    [
        ("CONV_2D", [(1, 5, 5, 2)], "a CONV_2D has no input 1"),
        ("CONV_2D", [(1, 5, 5, 2), (4, 9)], r"a CONV_2D has a kernel of shape \(4, 9\)"),
        ("TRANSPOSE_CONV", [(4,), (5, 3, 3, 3), None], "a TRANSPOSE_CONV has no input 2"),
        ("BATCH_MATMUL", [(5,), (5, 7)], r"a BATCH_MATMUL reads the shape \(5,\)"),
    ],
)
def test_macs_refuses_an_operator_without_its_operands(operator, inputs, message):
    with pytest.raises(ValueError, match=message):
        macs(operator, inputs, [(1, 1, 1, 1)])
