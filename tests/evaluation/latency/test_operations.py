# SPDX-License-Identifier: Apache-2.0
import pytest

from learn2compress.evaluation.latency.operations import operations_of
from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.model_file import read_model


def test_operations_of_refuses_an_operator_of_another_kind(brightest_pixel_tflite):
    with pytest.raises(ModelFileError, match=r"operators of the model must be of CONV_2D.*; got (DIV|MUL|RESHAPE) of"):
        operations_of(read_model(brightest_pixel_tflite))
