# SPDX-License-Identifier: Apache-2.0
"""Looking at a model's outputs: a number for each class, finite, and logits or probabilities."""

from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from learn2compress.compression.graphs.traced_graph import GraphFacts, read_graph
from learn2compress.compression.teacher.batching import in_batches
from learn2compress.compression.teacher.models import OpenedModel
from learn2compress.evaluation.examination.outputs import Source, tell_output
from learn2compress.schemas.errors import TeacherError
from learn2compress.schemas.scaling import Scaling

PROBES = 16
_SOURCES: dict[str, Source] = {
    **{"Softmax": "softmax", "Sigmoid": "sigmoid"},
    **dict.fromkeys(("BiasAdd", "MatMul", "Conv2D", "LogSoftmax"), "sum"),
}


def check_finite(path: Path, values: np.ndarray) -> None:
    """Check a teacher's answers.

    Raises:
        TeacherError: there is a NaN or an infinity among them.
    """
    bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if bad.any():
        what = "NaN" if np.isnan(values).any() else "Inf"
        raise TeacherError(
            f"teacher {path} must answer with finite numbers; got {what} for {int(bad.sum())} of "
            f"{len(values)} examples, first for example {int(np.argmax(bad))}. "
            "Check the teacher's weights and teacher.scaling."
        )


def run_probes(
    path: Path, opened: OpenedModel, scaling: Scaling, shape: tuple[int, ...] | None
) -> tuple[np.ndarray, GraphFacts]:
    """Ask a model about the probes.

    Args:
        shape: Of the data's examples, used where the model leaves its own open.

    Returns:
        [PROBES, outputs] float32, and what the graph says that computed them.

    Raises:
        TeacherError: the model fails, or its answers are no finite number for each of two classes or more.
    """
    probes = opened.input.probes(PROBES, shape, scaling)
    inputs = opened.input.prepare(tf.constant(probes), scaling, False)
    batch = opened.input.batch or PROBES
    try:
        # Traced once for both purposes: tracing a deep model takes seconds.
        function = tf.function(lambda inputs: opened.call(inputs, False), autograph=False).get_concrete_function(
            tf.TensorSpec((batch, *inputs.shape[1:]), opened.input.dtype)
        )
        values = in_batches(function, inputs, opened.input.batch).numpy()
    except Exception as error:  # a model's own code may raise anything
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise opened.input.failure(probes, lines[0][:300].rstrip(".")) from error
    if values.ndim != 2 or len(values) != PROBES:
        raise TeacherError(
            f"teacher {path} must return a number for each class, [batch, classes]; got "
            f"{['batch', *values.shape[1:]]}. End the model in one vector for each example, or set "
            "teacher.output."
        )
    if values.shape[1] < 1:
        raise TeacherError(f"teacher {path} must have an output for each class; got none. Set teacher.output.")
    check_finite(path, values)
    return values, read_graph(function, batch)


def tell_teacher_output(path: Path, end: str, values: np.ndarray) -> Literal["logits", "probabilities"]:
    """Tell logits from probabilities by the operation that they come from and by the numbers themselves.

    A single unit is the probability, or the logit, of the second of two classes.

    Args:
        path: The model, for errors.
        end: Type of the graph's last operation.
        values: [batch, outputs] float32, for the probes.

    Raises:
        TeacherError: The outputs are separate yes-or-no outputs.
    """
    kind = tell_output(values, _SOURCES.get(end, "unknown"))
    if kind != "sigmoid":
        return kind
    if values.shape[1] == 1:
        return "probabilities"
    sums = values.sum(axis=1)
    raise TeacherError(
        f"teacher {path} must return logits, or probabilities that sum to 1; got numbers in 0..1 that "
        f"sum to {sums.min():.2f}..{sums.max():.2f}, as of separate yes-or-no outputs (sigmoid). "
        "Use a model with one class for each example: logits or softmax."
    )
