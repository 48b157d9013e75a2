# SPDX-License-Identifier: Apache-2.0
r"""Prunes the architectures of keras.applications to half their bytes, and converts them to 8 bits.

    python benchmarks/architectures.py [NAME … | --all] [--prune-only] [--minutes 10] [--results FOLDER] \
        [--write docs/reference/architectures.md]

Each architecture is built with random weights, 96x96 pixels and ten classes, in a process of its own with a time limit.
Its channel groups are found, channels are removed by magnitude until the predicted int8 file has half the bytes, the
outputs are compared with those of the whole network whose removed channels are read as zero, and, unless `--prune-only`
is given, a few steps of training are done and the result is converted to int8. A finished architecture is read from the
folder of results. The last line is one JSON object.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SIDE, CLASSES, IMAGES = 96, 10, 8
FIRST = [
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "EfficientNetB0", "EfficientNetV2B0",
    "ResNet50", "ResNet50V2", "DenseNet121", "Xception", "InceptionV3", "InceptionResNetV2", "NASNetMobile",
    "ConvNeXtTiny", "RegNetX002", "RegNetY002", "ResNetRS50", "VGG16",
]  # fmt: skip
"""The smallest of each kind; the others of a kind have the same blocks, more of them or wider ones."""


def examine(name: str, path: Path, prune_only: bool) -> None:
    """Examines one architecture, and writes the figures after each stage."""
    from learn2compress.pipeline.environment import prepare_environment

    prepare_environment()

    import numpy as np
    import tf_keras as keras

    from learn2compress.compression.channels.removal import remove_channels
    from learn2compress.compression.graphs.flattening import flatten_models
    from learn2compress.compression.pruning.channel_targets import choose_widths
    from learn2compress.compression.pruning.importance import magnitude_importance
    from learn2compress.compression.pruning.prunable import prunable
    from learn2compress.schemas.config import ChannelTarget

    found: dict = {"name": name}

    def done(stage: str, **figures: object) -> None:
        found.update(figures, stage=stage, seconds=round(time.monotonic() - began))
        path.write_text(json.dumps(found))

    began = time.monotonic()
    options = {"weights": None, "input_shape": (SIDE, SIDE, 3), "classes": CLASSES, "classifier_activation": None}
    model = getattr(keras.applications, name)(**options)
    model = flatten_models({"student": model}, (SIDE, SIDE, 3), name)
    randomize(model)
    done("built", parameters=model.count_params(), layers=len(model.layers))
    students = prunable(model, ("student",))
    present = students.costs.at().figures[:, 0].tolist()
    kept = [(one.layer, one.kind, one.why, one.channels) for one in students.channels.kept]
    done("planned", groups=len(students.groups), kept=kept, bytes=present[0], macs=present[1])
    importance = magnitude_importance(students.channels)
    widths = choose_widths(students, ChannelTarget(bytes=0.5), importance)
    units = {group: np.sort(np.argsort(-importance[group])[:width]) for group, width in widths.items()}
    pruned = remove_channels(students.channels, units)
    after = students.costs.at([widths[group.name] for group in students.groups]).figures[:, 0].tolist()
    done("pruned", bytes_after=after[0], macs_after=after[1], difference=difference(students, pruned, units))
    if prune_only:
        done("pruned", stopped="not tried")
        return
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3)).astype(np.uint8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    pruned.compile(keras.optimizers.SGD(1e-4), loss, jit_compile=False)  # compilation takes minutes
    history = pruned.fit(images / 127.5 - 1, np.arange(IMAGES) % CLASSES, batch_size=4, epochs=1, verbose=0)
    done("trained", loss=history.history["loss"][-1])
    done("converted", **converted(pruned, images[:2]))


def randomize(model) -> None:
    """Sets random scales, offsets and biases, and the batch statistics of random images."""
    import numpy as np

    from learn2compress.compression.graphs.layer_walk import input_id, steps_of

    rng = np.random.default_rng(0)
    values = {input_id(model): rng.uniform(-1, 1, (2, SIDE, SIDE, 3)).astype(np.float32)}
    for step in steps_of(model):
        layer, weights = step.layer, step.layer.get_weights()
        kind = type(layer).__name__
        if kind == "BatchNormalization":
            value = np.asarray(values[step.inputs[0]], np.float64)
            weights[-2:] = value.mean(axis=(0, 1, 2)), value.var(axis=(0, 1, 2)) + 1e-3
            scales = [rng.uniform(0.5, 1.5, weight.shape) for weight in weights[:1] if layer.scale]
            weights[:-2] = [*scales, *(rng.normal(0, 0.3, weight.shape) for weight in weights[len(scales) : -2])]
        elif kind != "Normalization":
            weights = [rng.normal(0, 0.1, weight.shape) if weight.ndim == 1 else weight for weight in weights]
        layer.set_weights(weights)
        values |= zip(step.outputs, step.run(values), strict=True)


def difference(students, pruned, kept: dict) -> float:
    """Compares the outputs with those of the whole network in which removed channels are read as zero."""
    import numpy as np

    from learn2compress.compression.channels.removal import mixes_channels
    from learn2compress.compression.graphs.layer_walk import Edit, input_id, output_ids, run_steps

    channels, edits = students.channels, {}
    masks = channels.masks(kept)
    for number, step in enumerate(channels.steps):
        if mixes_channels(step.layer):
            placement = channels.tensors[step.inputs[0]]
            mask = np.zeros(len(placement.group), np.float32)
            mask[placement.kept(masks)] = 1
            edits[number] = Edit(inputs=lambda value, mask=mask: value * mask)
    image = np.random.default_rng(1).uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
    values = run_steps(channels.steps, {input_id(channels.model): image})
    values |= run_steps(channels.steps, {input_id(channels.model): image} | values, edits)
    expected = values[output_ids(channels.model)[0]].numpy()
    return float(np.max(np.abs(pruned(image, training=False).numpy() - expected)) / np.max(np.abs(expected)))


def converted(model, images) -> dict:
    """Converts a model to int8, if need be with operators in float, and describes the file in its final form."""
    from learn2compress.compression.quantization.conversion import convert_mixed
    from learn2compress.compression.quantization.on_device import write_file
    from learn2compress.modalities import modality_named
    from learn2compress.schemas.manifests import Task
    from learn2compress.tflite.model_file import prove_full_int8

    file = convert_mixed(model, "int8", images)
    proof = prove_full_int8(file.facts)
    floats = {tensor.index for tensor in file.facts.own_tensors if tensor.is_float and not tensor.constant}
    operators = Counter(one.name for one in file.facts.own_operators if floats & set(one.outputs))
    with tempfile.TemporaryDirectory() as folder:
        task = Task(input_shape=(SIDE, SIDE, 3), classes=[str(i) for i in range(CLASSES)])
        normalization = modality_named().student_input.normalization
        size = write_file(Path(folder), "student-int8", file, task, "a benchmark", normalization).bytes
    return {"file": size, "file_macs": file.facts.macs, "full": proof.holds, "floats": dict(operators.most_common())}


def known_names() -> list[str]:
    """Lists the architectures of keras.applications, in the order of their names."""
    from learn2compress.pipeline.environment import prepare_environment

    prepare_environment()

    import tf_keras as keras

    return sorted(name for name, found in vars(keras.applications).items() if inspect.isfunction(found))


def run(name: str, path: Path, minutes: float, options: list[str]) -> dict:
    """Runs one architecture in a process of its own; returns its figures."""
    known = json.loads(path.read_text()) if path.exists() else {}
    if not known or ("--prune-only" not in options and known.get("stopped") == "not tried"):
        path.unlink(missing_ok=True)
        command = [sys.executable, __file__, "--one", name, str(path), *options]
        try:
            done = subprocess.run(command, timeout=60 * minutes, capture_output=True, text=True)
            error = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except subprocess.TimeoutExpired:
            error = [f"more than {minutes:g} minutes"]
        found = json.loads(path.read_text()) if path.exists() else {"name": name, "stage": "started"}
        if error:
            path.write_text(json.dumps(found | {"stopped": error[0][:200]}))
    return json.loads(path.read_text())


def row(found: dict) -> str:
    """Formats the row of an architecture."""

    def cell(key: str, show: Callable) -> str:
        return show(found[key]) if key in found else "–"

    mega = lambda value: f"{value / 1e6:.2f}"  # noqa: E731
    kinds = Counter(kind for _, kind, _, _ in found.get("kept", ()))
    stays = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3)) or "none"
    if "file" in found:
        full = "full int8" if found["full"] else "float: " + ", ".join(f"{n} {k}" for k, n in found["floats"].items())
        error = f"{found['bytes_after'] / found['file'] - 1:+.1%}"
    else:
        full, error = found.get("stopped", found["stage"]), "–"
    macs = f"{found['macs_after'] / found['macs']:.0%}" if "macs_after" in found else "–"
    size = f"{mega(found['bytes'])} → {mega(found['bytes_after'])}" if "bytes_after" in found else "–"
    cells = [
        found["name"], cell("groups", str), stays, size, error, macs, cell("difference", lambda v: f"{v:.0e}"),
        cell("loss", lambda v: f"{v:.2f}"), full, cell("seconds", str),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


HEAD = """# Channel pruning of known architectures

Written by `python benchmarks/architectures.py --write docs/reference/architectures.md`: the smallest architecture of
each kind in keras.applications, with random weights, {side}×{side} pixels and ten classes, pruned to half of its
predicted bytes; see [pruning](../explanation/pruning.md).

- **stays**: layers that cannot be followed, by class; the channels of all that hangs on them stay.
- **MB as int8**: predicted before and after; **error**: of the prediction, against the file that was written.
- **difference**: of the outputs from those of the whole network whose removed channels are read as zero, relative to
  the largest output.
- **loss**: after one epoch of a few steps on random images; it only shows that the network trains.
- **8 bits**: after plain post-training quantization; operators that stay in float are counted. “not tried” stands in
  rows of `--prune-only`, whose networks were neither trained nor converted.

| architecture | groups | stays | MB as int8 | error | MACs left | difference | loss | 8 bits | s |
| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |
"""


def details(found: dict) -> str:
    """Describes what stays in an architecture, by reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for layer, kind, why, channels in found.get("kept", ()):
        reasons.setdefault((kind, why), []).append(f"{layer} ({channels})")
    lines = []
    for (kind, why), layers in reasons.items():
        shown = ", ".join(layers[:4]) + (f" and {len(layers) - 4} more" if len(layers) > 4 else "")
        lines.append(f"- {found['name']}: {kind} {why}; channels that stay: {shown}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="architectures; default: the smallest of each kind")
    parser.add_argument("--all", action="store_true", help="all 71 architectures, which takes hours and 10 GB")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--prune-only", action="store_true", help="neither train nor convert")
    parser.add_argument("--nice", type=int, default=15, help="increment of the niceness")
    parser.add_argument("--minutes", type=float, default=10, help="time limit of an architecture")
    parser.add_argument("--results", type=Path, default=Path("architectures"), help="folder of results")
    parser.add_argument("--write", type=Path, help="file to write the table to")
    given = parser.parse_args()
    if given.one:
        os.nice(given.nice)
        examine(given.one[0], Path(given.one[1]), given.prune_only)
        return
    given.results.mkdir(parents=True, exist_ok=True)
    options = ["--nice", str(given.nice), *(["--prune-only"] if given.prune_only else [])]
    rows = []
    for name in given.names or (known_names() if given.all else FIRST):
        rows.append(run(name, given.results / f"{name}.json", given.minutes, options))
        print(row(rows[-1]), flush=True)
    text = HEAD.format(side=SIDE) + "\n".join(map(row, rows)) + "\n"
    if any(found.get("kept") for found in rows):
        text += "\n## What stays\n\n" + "\n".join(filter(None, map(details, rows))) + "\n"
    if given.write:
        given.write.write_text(text)
    errors = [abs(found["bytes_after"] / found["file"] - 1) for found in rows if "file" in found]
    print(
        json.dumps(
            {
                "architectures": len(rows),
                "pruned": sum("bytes_after" in found for found in rows),
                "full_int8": sum(found.get("full", False) for found in rows),
                "largest_error_of_bytes": round(max(errors, default=0.0), 4),
                "largest_difference": max((found.get("difference", 0.0) for found in rows), default=0.0),
            }
        )
    )


if __name__ == "__main__":
    main()
