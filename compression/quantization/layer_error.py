# SPDX-License-Identifier: Apache-2.0
"""Ranks the layers of a student by their quantization error, largest first.

If a whole int8 file is compared with a float file, the error of one layer is also attributed to every layer behind it.
Therefore each operator of the written file is inserted on its own, with its kernel, ranges and rounding, into the float
student (tflite/transformations/splicing.py), and compared with the same student in which that operator is in float but
reads the same rounded inputs: the error of earlier layers is not attributed to it. Two figures are those of
TensorFlow's quantization debugger:

    SQNR        10 log10( sum y² / sum (y8 - y)² ) dB        y: output of the float operator, y8: of the int8 operator
    RMSE/scale  sqrt( mean (y8 - y)² ) / scale               rounding alone gives 1/sqrt(12) = 0.29

Neither is suitable for a ranking: if one channel is a thousand times as large as the others, they do not show that the
others are rounded to nothing. Layers are ranked by the SQNR of the logits of the float student with only this operator
quantized (after subtraction of each image's mean, to which the softmax is invariant).

The cause is the range of the output if rounding y alone to the output's scale causes at least half of the squared
error; otherwise it is the weights. The error of a range is only removed if the operators that read it are in float too.

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
# Multiply-accumulates of a ranking: seconds of one processor core.
_BUDGET = 20e9
_LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


def ranking_images(pair: Pair, macs: int, images: Sequence[np.ndarray], inputs: StudentInput) -> np.ndarray:
    """Selects and normalizes representative images, as many as the budget of a ranking allows.

    Args:
        pair: Files of a student.
        macs: Multiply-accumulates of the student for one image.
        images: Representative images, each [h, w, c] uint8.
        inputs: Student input of the modality.

    Returns:
        [n, h, w, c] float32.
    """
    count = int(np.clip(_BUDGET / (2 * max(1, macs) * len(pair.steps)), FEWEST_IMAGES, MOST_IMAGES))
    return inputs.normalize(np.stack(images[:count])).numpy()


def whole_error(pair: Pair, images: np.ndarray) -> tuple[float | None, float]:
    """Measures the quantization error of the logits with all layers in 8 bits.

    Args:
        pair: Float and int8 file of a student.
        images: Normalized images [n, h, w, c] float32.

    Returns:
        SQNR of the logits in dB (None: no error), and the fraction of images whose predicted class changes.
    """
    exact, found = (_logits(pair, in_float, images) for in_float in (_all(pair), ()))
    return _logits_sqnr(exact, found, exact), _changed(exact, found)


def rank_steps(pair: Pair, names: Sequence[str], images: np.ndarray) -> list[tuple[int, LayerError]]:
    """Measures the quantization error of each integer operator of a file on its own.

    Args:
        pair: Float and int8 file of a student.
        names: Name of the layer of each step.
        images: Normalized images [n, h, w, c] float32.

    Returns:
        Index and error of each step, largest error first, without a softmax at the end.

    Source: https://www.tensorflow.org/lite/performance/quantization_debugger
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
    """Finds the student's layers that each step computes.

    Args:
        pair: Float and int8 file of a student; the float file has the converter's names, which list the layers that an
            operator was fused from.
        student: The Keras student. A layer that no name lists, such as a folded batch normalization, is assigned to the
            step of the layer before it.

    Returns:
        Names of the layers of each step; the last one is the layer after which the step is named.
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
    """Names a step after its layer, or by its index if it has no known layer."""
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
    """Computes the SQNR in dB; None if there is no noise."""
    power = np.sum(np.square(noise, dtype=np.float64))
    if not power:
        return None
    # The lower bound is for a signal of zeros.
    return float(10 * np.log10(max(np.sum(np.square(signal, dtype=np.float64)), 1e-30) / power))


def _changed(exact: np.ndarray, found: np.ndarray) -> float:
    return float(np.mean(exact.argmax(axis=-1) != found.argmax(axis=-1)))


def _order(decibels: float | None) -> float:
    return float("inf") if decibels is None else decibels
