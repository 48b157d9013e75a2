# SPDX-License-Identifier: Apache-2.0
"""What an image classifier's output holds: a score for each class, or the one unit of a yes-or-no classifier."""

import math
from typing import Literal, NamedTuple

import numpy as np

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.model_file import ModelFile, Tensor

Kind = Literal["probabilities", "sigmoid", "logits", "unknown"]

# What passes numbers on without changing their meaning.
_PASSING = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "CAST")
_KINDS: dict[str, Kind] = {
    **{"SOFTMAX": "probabilities", "LOGISTIC": "sigmoid", "LOG_SOFTMAX": "logits"},
    **dict.fromkeys(("FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL"), "logits"),
}


class ScoresReading(NamedTuple):
    """The chosen output.

    Attributes:
        tensor: Its tensor.
        units: Number of its scores.
        kind: What they are, as the operator says that they come from; `sigmoid` where each is a probability by itself.
    """

    tensor: Tensor
    units: int
    kind: Kind

    @property
    def classes(self) -> int:
        """Number of classes: two for a single unit."""
        return max(2, self.units)


def read_output(model: ModelFile, wanted: str | None = None, batch: int = 1) -> ScoresReading:
    """Chooses the output with the scores.

    Args:
        model: The file.
        batch: Number of images that one invocation takes.
        wanted: Name of one of several outputs, or its index.

    Raises:
        ModelFileError: A choice has to be made or is wrong, or the output holds no vector of scores.
    """
    tensor = _choose(model, wanted)
    units = tensor.shape[-1] if tensor.shape else 0
    if not units or math.prod(tensor.shape) != batch * units or tensor.dtype in ("bool", "string", "int64", "int32"):
        raise ModelFileError(
            f"An image classifier must give [{batch}, classes]; got {tensor.dtype} {list(tensor.shape)} in "
            f"{model.file}. Give a model with one score a class."
        )
    return ScoresReading(tensor, units, _kind(model, tensor))


def spread_unit(values: np.ndarray, probability: bool) -> np.ndarray:
    """Turns the single unit of a yes-or-no classifier into scores of two classes: no, yes.

    Args:
        values: [images, 1] float32.
        probability: Whether it is the probability of yes; else its logit.
    """
    other = 1 - values if probability else np.zeros_like(values)
    return np.concatenate([other, values], axis=1)


def name_outputs(model: ModelFile) -> list[str]:
    """Returns the names of the outputs: those of the signature where there is one, else those of the tensors."""
    named = {index: name for found in model.signatures if found.subgraph == 0 for name, index in found.outputs}
    return [named.get(tensor.index, tensor.name.split(";")[-1]) for tensor in model.outputs]


def _choose(model: ModelFile, wanted: str | None) -> Tensor:
    names = name_outputs(model)
    if wanted is None:
        if len(model.outputs) == 1:
            return model.outputs[0]
    elif names.count(wanted) == 1:
        return model.outputs[names.index(wanted)]
    elif wanted.isdecimal() and int(wanted) < len(names):
        return model.outputs[int(wanted)]
    ends = enumerate(zip(names, model.outputs, strict=True))
    listed = ", ".join(f"{index}: {name} {list(tensor.shape)}" for index, (name, tensor) in ends)
    raise ModelFileError(
        f"The model must have one output, or the choice of one; got {wanted or len(names)} in {model.file}, which has "
        f"{listed or 'none'}. Choose one with --output and its index."
    )


def _kind(model: ModelFile, tensor: Tensor) -> Kind:
    writers = {index: operator for operator in model.operators if operator.subgraph == 0 for index in operator.outputs}
    operator = writers.get(tensor.index)
    while operator is not None and operator.name in _PASSING:
        operator = writers.get(operator.inputs[0])
    return "unknown" if operator is None else _KINDS.get(operator.name, "unknown")
