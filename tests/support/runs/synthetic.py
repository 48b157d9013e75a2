# SPDX-License-Identifier: Apache-2.0
"""Writes the folders, manifests and records of a run like the real nodes, in milliseconds, without TFX."""

import gzip
import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c

from learn2compress.lineage.records.provenance import describe_output, record_of, save_record
from learn2compress.schemas.provenance import Input, Output
from learn2compress.storage.location import Location, open_location

MODELS = ("small-float32", "small-int8", "large-float32", "large-int8")


def image_id(number: int) -> str:
    return f"{number:016x}"


def shard(ids: list[str]) -> bytes:
    """Makes a gzip TFRecord file of tf.Examples that hold only an id."""
    records = b""
    for one in ids:
        value = b"\n\x10" + one.encode()
        feature = b"\n" + bytes([len(value)]) + value
        entry = b"\n\x02id\x12" + bytes([len(feature)]) + feature
        features = b"\n" + bytes([len(entry)]) + entry
        example = b"\n" + bytes([len(features)]) + features
        length = struct.pack("<Q", len(example))
        records += length + _checksum(length) + example + _checksum(example)
    return gzip.compress(records, mtime=0)


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


class SyntheticRun:
    """The artifacts and records of seven nodes below `root`.

    Attributes:
        outputs: Outputs by "Node.key".
        records: Paths of the records by node.
    """

    def __init__(
        self,
        root: Path | str,
        run: str = "run-1",
        first: int = 1,
        teacher: bytes = b"teacher",
        data: str = "data",
        epochs: int = 30,
        seed: int = 7,
        chosen: str = "large-int8",
        day: int = 1,
        extra: list[str] | None = None,
    ) -> None:
        self.location: Location = open_location(root)
        self.run, self.execution, self.day = run, first, day
        self.outputs: dict[str, Output] = {}
        self.records: dict[str, str] = {}
        self.made_by: dict[str, str] = {}
        code = {"code_version": "0.1.0+abc"}
        seeded = {**code, "seed": seed}
        teacher_sha256 = hashlib.sha256(teacher).hexdigest()
        data_digest = hashlib.sha256(data.encode()).hexdigest()
        splits = {
            "train": [image_id(n) for n in range(5)] + (extra or []),
            "validation": [image_id(100)],
            "test": [image_id(200)],
        }
        manifest = {
            "task": {"input_shape": [8, 8, 1], "classes": ["0", "1"]}, "digest": data_digest,
            "counts": {split: len(ids) for split, ids in splits.items()},
            "shards": {split: ["data_tfrecord-00000-of-00001.gz"] for split in splits},
            "per_class": {}, "duplicates": {}, "duplicate_examples": [], "skipped": [], "skipped_count": 0,
        }  # fmt: skip
        examples = {f"Split-{s}/data_tfrecord-00000-of-00001.gz": shard(ids) for s, ids in splits.items()}
        self.node(
            "ImageExampleGen", [], {"examples": ("Examples", {**examples, "manifest.json": manifest})},
            {"data_path": "digits", "data_digest": data_digest, **code},
            {"examples": {"data_digest": data_digest, "train_images": 5}},
        )  # fmt: skip
        about = {
            "model": "model/teacher.keras", "sha256": teacher_sha256, "bytes": len(teacher), "format": "keras3",
            "parameters": 1000, "accuracy": {"validation": 0.97, "test": 0.96}, "output": "logits",
        }  # fmt: skip
        self.node(
            "TeacherImporter", ["ImageExampleGen.examples"],
            {
                "teacher": ("learn2compress.Teacher", {"model/teacher.keras": teacher, "manifest.json": about}),
                "teacher_logits": ("learn2compress.TeacherLogits", {"Split-train/x.gz": teacher + data.encode()}),
            },
            {"teacher_path": "teacher.keras", "teacher_sha256": teacher_sha256, **seeded},
            {"teacher": {"sha256": teacher_sha256, "test_accuracy": 0.96, "parameters": 1000}},
        )  # fmt: skip
        inputs = ["ImageExampleGen.examples", "TeacherImporter.teacher_logits"]
        family = f"{teacher!r}{data}{epochs}{seed}".encode()
        self.node(
            "Distiller", [*inputs, "TeacherImporter.teacher"],
            {"students": ("learn2compress.StudentSet", {"large/student.h5": family, "manifest.json": {"seed": seed}})},
            {"distill_epochs": epochs, "distill_temperature": 4.0, **seeded},
        )  # fmt: skip
        self.node(
            "Pruner", [*inputs, "Distiller.students"],
            {"pruned_students": ("learn2compress.StudentSet", {"large/student.h5": b"pruned" + family})},
            {"prune_sparsity": 0.5, **seeded},
        )  # fmt: skip
        files = {f"{name}.tflite": b"TFL3" + name.encode() + family for name in MODELS}
        models = [
            {
                "name": name, "student": name.split("-")[0], "variant": name.split("-")[1],
                "file": {"path": f"{name}.tflite", "sha256": hashlib.sha256(files[f"{name}.tflite"]).hexdigest(),
                         "bytes": len(files[f"{name}.tflite"])},
                "full_int8": name.endswith("int8"), "layers": [],
                "calibration": {"images": 4, "split": "train", "digest": "c" * 64} if name.endswith("int8") else None,
            }
            for name in MODELS
        ]  # fmt: skip
        self.node(
            "Quantizer", [*inputs, "Pruner.pruned_students"],
            {
                "models": (
                    "learn2compress.OnDeviceModelSet",
                    {**files, "manifest.json": {"models": models, "teacher_sha256": teacher_sha256, "seed": seed}},
                )
            },
            {"quantize_variants": "[float32, int8]", **seeded},
        )  # fmt: skip
        candidates = [
            {
                "name": m["name"], "student": m["student"], "variant": m["variant"], "file": m["file"]["path"],
                "sha256": m["file"]["sha256"], "bytes": m["file"]["bytes"], "gzip_bytes": 10, "macs": 1000,
                "latency": [{"threads": 1, "p50_ms": 0.25, "p90_ms": 0.3}],
                "figures": {
                    "validation": {"top1": 0.9 + i / 100, "images": 1, "agreement": 0.95},
                    "test": {"top1": 0.9 + i / 100 - epochs / 10000, "images": 1, "agreement": 0.95},
                },
            }
            for i, m in enumerate(models)
        ]  # fmt: skip
        evaluation = {"host": {"name": "h"}, "candidates": candidates, "images": {"validation": 1, "test": 1}}
        self.node(
            "TFLiteEvaluator", ["Quantizer.models", "ImageExampleGen.examples", "TeacherImporter.teacher"],
            {"evaluation": ("learn2compress.ModelEvaluation", {"evaluation.json": evaluation})},
            {"evaluate_top_k": 5, **code},
        )  # fmt: skip
        verdicts = [
            {"candidate": name, "status": "chosen" if name == chosen else "dominated",
             "reason": "best within the limits" if name == chosen else f"{chosen} is better"}
            for name in MODELS
        ]  # fmt: skip
        sha256 = hashlib.sha256(files[f"{chosen}.tflite"]).hexdigest()
        choice = {"limits": {"max_size": 50_000}, "objective": "accuracy", "chosen": chosen, "sha256": sha256,
                  "front": [chosen], "verdicts": verdicts}  # fmt: skip
        self.node(
            "StudentSelector", ["TFLiteEvaluator.evaluation", "Quantizer.models"],
            {
                "selection": ("learn2compress.Selection", {"selection.json": choice}),
                "model": ("Model", {f"Format-Serving/{chosen}.tflite": files[f"{chosen}.tflite"]}),
            },
            {"select_objective": "accuracy", "select_max_size": 50_000, **code},
            {"selection": {"chosen": chosen, "sha256": sha256, "objective": "accuracy", "test_accuracy": 0.93}},
        )  # fmt: skip

    def node(
        self,
        name: str,
        inputs: list[str],
        outputs: Mapping[str, tuple[str, Mapping[str, Any]]],
        parameters: Mapping[str, Any],
        properties: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> str:
        """Writes the files of a node's outputs, and its record."""
        number = self.execution
        self.execution += 1
        described = []
        for key, (kind, files) in outputs.items():
            uri = f"{name}/{key}/{number}"
            for path, content in files.items():
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.location.write(f"{uri}/{path}", raw)
            output = describe_output(self.location, uri, key, kind, properties=(properties or {}).get(key))
            described.append(output)
            self.outputs[f"{name}.{key}"] = output
        return self.record(name, inputs, described, parameters, number)

    def record(
        self, name: str, inputs: list[str], outputs: list[Output], parameters: Mapping[str, Any], number: int,
        cached: bool = False,
    ) -> str:  # fmt: skip
        read = []
        for one in inputs:
            made = self.outputs[one]
            record = self.made_by[one]
            sha256 = self.location.sha256(record)
            key = one.split(".")[1]
            read.append(Input(key, made.uri, made.type, made.digest, record=record, record_sha256=sha256))
        statement = record_of(
            name, read, outputs, parameters, pipeline="learn2compress", run=self.run, execution=str(number),
            started=f"2026-01-{self.day:02}T10:{number % 60:02}:00.000Z",
            finished=f"2026-01-{self.day:02}T10:{number % 60:02}:30.000Z",
            invocation=f"{self.run}-{number}", cached=cached,
        )  # fmt: skip
        save_record(self.location, statement)
        self.records[name] = statement.path
        if not cached:
            for output in outputs:
                self.made_by[f"{name}.{output.key}"] = statement.path
        return statement.path

    def again(self, run: str) -> None:
        """Records a further run in which all nodes were served from the cache."""
        self.run = run
        graph = {
            "ImageExampleGen": [],
            "TeacherImporter": ["ImageExampleGen.examples"],
            "Quantizer": ["ImageExampleGen.examples", "Pruner.pruned_students"],
        }
        for name, inputs in graph.items():
            outputs = [output for key, output in self.outputs.items() if key.startswith(f"{name}.")]
            self.record(name, inputs, outputs, {}, self.execution, cached=True)
            self.execution += 1

    def path(self, name: str, file: str) -> Path:
        """Returns the path of a file of an output, such as `path("Quantizer.models", "large-int8.tflite")`."""
        return Path(self.location.join(self.outputs[name].uri), file)
