# SPDX-License-Identifier: Apache-2.0
"""Which layer of a student loses accuracy in 8 bits: a ranking, worst first.

Every layer behind a bad one looks bad when a whole int8 file is compared with a float one. So each operator of the
emitted file is put by itself, with its kernel, ranges and rounding, into the float student
(tflite/transformations/splicing.py), and compared with the same student in which that operator is in float too but
reads the same rounded inputs: what earlier layers lost is not charged to it. Two figures are those of TensorFlow's
quantization debugger:

    SQNR        10 log10( sum y² / sum (y8 - y)² ) dB        y: what the float operator gives, y8: the int8 one
    RMSE/scale  sqrt( mean (y8 - y)² ) / scale               rounding alone gives 1/sqrt(12) = 0.29

Neither says what a loss matters: one channel a thousand times the others hides in both that the others are gone. What
ranks is the SQNR of the logits, which that one operator's rounding leaves at the end of the float student (with each
image's mean taken away, which the softmax does not see).

The cause is the output's range where rounding y alone to the output's scale makes at least half of the squared error,
and else the weights. A bad range is mended only if the operators that read it are in float as well.

Source: https://www.tensorflow.org/lite/performance/quantization_debugger
"""

from collections.abc import Collection, Sequence

import numpy as np
import tf_keras as keras
from ai_edge_litert import schema_py_generated as schema

from learn2compress.modalities.protocol import StudentInput
from learn2compress.schemas.manifests import LayerError
from learn2compress.tflite.interpreter import run_images
from learn2compress.tflite.transformations.splicing import Pair, splice

MOST_IMAGES, FEWEST_IMAGES = 64, 8
# Multiply-accumulates that a ranking may take: seconds of a processor's core.
_BUDGET = 20e9
_LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


def ranking_images(pair: Pair, macs: int, images: Sequence[np.ndarray], inputs: StudentInput) -> np.ndarray:
    """As many of the representative images as a ranking has time for, normalized: [n, h, w, c] float32."""
    count = int(np.clip(_BUDGET / (2 * max(1, macs) * len(pair.steps)), FEWEST_IMAGES, MOST_IMAGES))
    return inputs.normalize(np.stack(images[:count])).numpy()


def whole_error(pair: Pair, images: np.ndarray) -> tuple[float | None, float]:
    """What all layers in 8 bits do to the logits.

    Args:
        pair: A student's two files.
        images: [n, h, w, c] float32, normalized.

    Returns:
        The SQNR of the logits, and the share of images whose class changes.
    """
    exact, found = (_logits(pair, in_float, images) for in_float in (_all(pair), ()))
    return _logits_sqnr(exact, found, exact), _changed(exact, found)


def rank_steps(pair: Pair, names: Sequence[str], images: np.ndarray) -> list[tuple[int, LayerError]]:
    """Looks at each operator that a file has in integers, by itself.

    Args:
        pair: A student's two files.
        names: Of the layer of each step.
        images: [n, h, w, c] float32, normalized.

    Returns:
        Steps by place and what was found of them, worst first. A softmax at the end is not among them.
    """
    exact = _logits(pair, _all(pair), images)
    found = []
    for index, step in enumerate(pair.steps):
        if not step.rounded or (step.op == "SOFTMAX" and index == len(pair.steps) - 1):
            continue
        outputs = (pair.logits, step.writes[0])
        others = _all(pair) - {index}
        before = splice(pair, _all(pair), float_ends=True, rounded={index}, outputs=outputs)
        after = splice(pair, others, float_ends=True, outputs=outputs)
        (logits, y), (logits8, y8) = (run_images(spliced, images) for spliced in (before, after))
        quantization = pair.written(index).quantization
        scale = float(quantization.scale[0])
        rounding = _rounded(y, scale, int(quantization.zeroPoint[0]), _dtype(pair, index)) - y
        error = np.mean(np.square(y8 - y, dtype=np.float64))
        found.append(
            (
                index,
                LayerError(
                    layer=names[index],
                    op=step.op,
                    cause="range" if np.mean(np.square(rounding, dtype=np.float64)) >= error / 2 else "weights",
                    sqnr_db=_sqnr(y, y8 - y),
                    rmse_over_scale=float(np.sqrt(error) / scale),
                    logits_sqnr_db=_logits_sqnr(logits, logits8, exact),
                    changed=_changed(logits, logits8),
                ),
            )
        )
    return sorted(found, key=lambda entry: (_order(entry[1].logits_sqnr_db), _order(entry[1].sqnr_db), entry[0]))


def layers_of_steps(pair: Pair, student: keras.Model) -> list[list[str]]:
    """The student's layers that each step computes, the one that gave it its name last.

    Args:
        pair: A student's two files; the float one has the converter's names, which list the layers that an operator
            was fused from.
        student: Whose layers they are. What no name lists, as a batch normalization that went into a kernel, is counted
            to the step of the layer before it.
    """
    own = {layer.name for layer in student.layers if not isinstance(layer, keras.layers.InputLayer)}
    tensors = pair.floating.facts.tensors
    found: list[list[str]] = []
    for step in pair.steps:
        parts = [segment.split("/") for segment in tensors[step.writes[0]].name.split(";")]
        named = [next((part for part in segment if part in own), None) for segment in parts]
        found.append(list(dict.fromkeys(name for name in named if name)))
    place = {name: index for index, names in reversed(list(enumerate(found))) for name in names}
    for layer in student.layers:
        if layer.name in place or layer.name not in own:
            continue
        inherited = next((place[name] for name in _before(layer) if name in place), None)
        if inherited is not None:
            place[layer.name] = inherited
            found[inherited].insert(0, layer.name)
    return found


def name_of_step(layers: Sequence[Sequence[str]], index: int) -> str:
    """What a person calls a step: the layer, or its place where no layer is known for it."""
    return layers[index][-1] if layers[index] else f"operator {index}"


def _before(layer: keras.layers.Layer) -> list[str]:
    inbound = [node.inbound_layers for node in layer.inbound_nodes]
    return [one.name for found in inbound for one in (found if isinstance(found, list) else [found])]


def _all(pair: Pair) -> set[int]:
    return set(range(len(pair.steps)))


def _logits(pair: Pair, in_float: Collection[int], images: np.ndarray) -> np.ndarray:
    (logits,) = run_images(splice(pair, in_float, float_ends=True, outputs=(pair.logits,)), images)
    return logits


def _dtype(pair: Pair, index: int) -> str:
    kind = pair.written(index).type
    return next(name.lower() for name, code in vars(schema.TensorType).items() if code == kind)


def _rounded(values: np.ndarray, scale: float, zero_point: int, dtype: str) -> np.ndarray:
    low, high = _LIMITS[dtype]
    return (np.clip(np.rint(values / scale) + zero_point, low, high) - zero_point) * scale


def _logits_sqnr(exact: np.ndarray, found: np.ndarray, signal: np.ndarray) -> float | None:
    def centred(values: np.ndarray) -> np.ndarray:
        return values - values.mean(axis=-1, keepdims=True)

    return _sqnr(centred(signal), centred(found) - centred(exact))


def _sqnr(signal: np.ndarray, noise: np.ndarray) -> float | None:
    """In dB; None where there is no noise."""
    power = np.sum(np.square(noise, dtype=np.float64))
    if not power:
        return None
    # A signal of nothing but zeros drowns in any noise.
    return float(10 * np.log10(max(np.sum(np.square(signal, dtype=np.float64)), 1e-30) / power))


def _changed(exact: np.ndarray, found: np.ndarray) -> float:
    return float(np.mean(exact.argmax(axis=-1) != found.argmax(axis=-1)))


def _order(decibels: float | None) -> float:
    return float("inf") if decibels is None else decibels
