# SPDX-License-Identifier: Apache-2.0
"""MACs are counted from known shapes, and are None if some are hidden."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from learn2compress.compression.graphs.traced_graph import GraphFacts, read_graph


def read(function: Callable[[tf.Tensor], tf.Tensor], *shape: int) -> GraphFacts:
    traced = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec(shape))
    return read_graph(traced, shape[0])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("function", "shape", "macs"),
    [
        # Output positions x kernel positions x input channels x output channels.
        (lambda x: tf.nn.conv2d(x, tf.ones((3, 3, 4, 5)), 1, "SAME"), (6, 6, 4), 36 * 9 * 4 * 5),
        (lambda x: tf.nn.conv2d(x, tf.ones((3, 3, 4, 5)), 2, "VALID"), (7, 7, 4), 9 * 9 * 4 * 5),
        # Two groups: each output channel reads half of the input channels.
        (lambda x: tf.nn.conv2d(x, tf.ones((3, 3, 2, 6)), 1, "SAME"), (6, 6, 4), 36 * 9 * 2 * 6),
        (lambda x: tf.nn.depthwise_conv2d(x, tf.ones((3, 3, 4, 2)), [1] * 4, "SAME"), (6, 6, 4), 36 * 9 * 4 * 2),
        # A transposed convolution reads each input position once for each kernel position and output channel.
        (
            lambda x: tf.nn.conv2d_transpose(x, tf.ones((3, 3, 5, 4)), (x.shape[0], 12, 12, 5), 2),
            (6, 6, 4),
            36 * 9 * 4 * 5,
        ),
        (lambda x: x @ tf.ones((7, 5)), (7,), 35),
        (lambda x: tf.matmul(x, tf.ones((5, 7)), transpose_b=True), (7,), 35),
        (lambda x: tf.matmul(x, x, transpose_b=True), (4, 7), 4 * 4 * 7),
        (lambda x: tf.matmul(x, x, transpose_a=True), (4, 7), 7 * 7 * 4),
        (lambda x: tf.einsum("bij,jk->bik", x, tf.ones((7, 5))), (4, 7), 4 * 7 * 5),
        (lambda x: tf.einsum("...ij,...kj->...ik", x, tf.ones((2, 3, 7))), (2, 4, 7), 2 * 4 * 3 * 7),
        (lambda x: tf.nn.relu(x) + 1, (6, 6, 4), 0),
        # Two layers are summed; operations that the output does not depend on are ignored.
        (lambda x: (x @ tf.ones((7, 5))) @ tf.ones((5, 2)), (7,), 35 + 10),
        (lambda x: [x @ tf.ones((7, 5)), x @ tf.ones((7, 9))][0], (7,), 35),
    ],
)
def test_read_graph_counts_the_macs_of_one_image(
    function: Callable, shape: tuple[int, ...], macs: int, batch: int
) -> None:
    assert read(function, batch, *shape).macs == macs


@pytest.mark.parametrize(
    ("function", "end"),
    [
        (lambda x: tf.nn.softmax(x @ tf.ones((4, 3))), "Softmax"),
        (lambda x: tf.identity(tf.reshape(tf.nn.softmax(x), (-1, 2))), "Softmax"),
        (lambda x: tf.cast(tf.sigmoid(x), tf.float16), "Sigmoid"),
        (lambda x: tf.nn.bias_add(x, tf.ones(4)), "BiasAdd"),
        (lambda x: x @ tf.ones((4, 3)), "MatMul"),
        (lambda x: x, "Placeholder"),
    ],
)
def test_read_graph_finds_the_last_operation_that_computes(function: Callable, end: str) -> None:
    assert read(function, 1, 4).end == end


def test_read_graph_includes_the_functions_of_a_saved_model(tmp_path: Path) -> None:
    module = tf.Module()
    module.matrix = tf.Variable(tf.ones((4, 3)))
    inner = tf.function(lambda x: tf.nn.softmax(x @ module.matrix), autograph=False)
    module.outer = tf.function(lambda x: inner(x * 2), input_signature=[tf.TensorSpec([None, 4])], autograph=False)
    tf.saved_model.save(module, str(tmp_path), signatures=module.outer)
    loaded = tf.saved_model.load(str(tmp_path))
    signature = loaded.signatures["serving_default"]
    assert read(lambda x: next(iter(signature(x=x).values())), 5, 4) == GraphFacts(12, "Softmax")


def test_read_graph_returns_none_when_macs_are_in_loops() -> None:
    def loop(x: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y @ tf.ones((4, 4))), (0, x))[1]

    assert read(loop, 1, 4).macs is None
    inner = tf.function(loop, autograph=False)
    assert read(lambda x: inner(x), 1, 4).macs is None


def test_read_graph_returns_none_when_macs_are_compiled() -> None:
    compiled = tf.function(lambda x: x @ tf.ones((4, 4)), jit_compile=True, autograph=False)
    facts = read(lambda x: compiled(x), 1, 4)
    assert facts.macs is None
    assert facts.end in ("StatefulPartitionedCall", "PartitionedCall")


def test_read_graph_returns_none_when_a_shape_is_unknown() -> None:
    def sliced(x: tf.Tensor) -> tf.Tensor:
        return x[:, : tf.cast(x[0, 0], tf.int32)] @ tf.ones((4, 3))

    assert read(sliced, 1, 4).macs is None


def test_read_graph_accepts_a_graph_that_cannot_be_frozen() -> None:
    calls = tf.Variable(0.0)

    @tf.function(autograph=False)
    def counting(x: tf.Tensor) -> tf.Tensor:
        calls.assign_add(1.0)
        return x @ tf.ones((2, 3))

    assert read(lambda x: counting(x), 1, 2) == GraphFacts(None, "")
