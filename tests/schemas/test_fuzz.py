# SPDX-License-Identifier: Apache-2.0
"""Whatever is in a file, manifests and configurations are read, or refused by the product's own error."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from support.strategies.properties import damaged, examples

from learn2compress.schemas import manifests
from learn2compress.schemas.config import Config, load_config, parse_config
from learn2compress.schemas.errors import ConfigError, Learn2CompressError
from learn2compress.schemas.manifests import MANIFEST, read_manifest, write_manifest
from learn2compress.schemas.scaling import Scaling

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from([*Config.model_fields, "path", "epochs", "sizes", "channels", "resources"]) | st.text(max_size=4)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))
FILE = manifests.File(path="a.h5", sha256="0" * 64, bytes=3)
TASK = manifests.Task(input_shape=(8, 8, 1), classes=["a", "b"])
GIVEN = [
    manifests.DataManifest(
        task=TASK, digest="d", counts={"train": 1}, per_class={"train": [1, 0]}, shards={"train": ["s"]}, duplicates={},
        duplicate_examples=[("a", "b")], skipped=[], skipped_count=0,
    ),
    manifests.TeacherManifest(
        task=TASK, model="m", format="h5", sha256="s", bytes=1, output="logits", scaling=Scaling(), parameters=None,
        macs=None, trainable=True, accuracy={"test": 0.5},
    ),
    manifests.StudentSetManifest(
        task=TASK, stage="pruned", normalization=Scaling(), teacher_sha256="s", family=FILE, family_spec={"a": [1]},
        students=[manifests.Student(name="a", model=FILE, parameters=1, macs=1, validation_accuracy=1.0)], curves=FILE,
        seed=0,
    ),
    manifests.OnDeviceModelSetManifest(
        task=TASK, normalization=Scaling(), teacher_sha256="s", curves=FILE, seed=1,
        models=[manifests.OnDeviceModel(name="a-int8", student="a", variant="int8", file=FILE)],
    ),
]  # fmt: skip
CONFIG = b"""teacher: {path: t.keras, scaling: unit}
data: {path: digits, classes: ['0', '1']}
students: {sizes: {small: {size_bytes: 24KB}, large: 2.0}}
distill: {epochs: 3, student_weights: {small: 2}}
prune: {channels: {bytes: 50%}}
kubeflow: {resources: {default: {cpu: 4, memory: 8Gi}}}
"""


@pytest.mark.parametrize("manifest", GIVEN, ids=lambda manifest: type(manifest).__name__)
@examples(60)
@given(data=st.data())
def test_read_manifest_reads_or_refuses_any_file(manifest: Any, data: st.DataObject, tmp_path: Path) -> None:
    whole = write_manifest(tmp_path, manifest).read_bytes()
    content = data.draw(damaged(whole) | st.binary(max_size=40) | TREES.map(lambda tree: json.dumps(tree).encode()))
    (tmp_path / MANIFEST).write_bytes(content)

    try:
        found = read_manifest(tmp_path, type(manifest))
    except Learn2CompressError as error:
        assert MANIFEST in str(error)  # noqa: PT017 - it may as well be read
    else:
        assert isinstance(found, type(manifest))


@examples(150)
@given(tree=st.dictionaries(KEYS, TREES, max_size=5))
def test_parse_config_reads_or_refuses_any_mapping(tree: dict[str, Any]) -> None:
    try:
        assert isinstance(parse_config({"teacher": {"path": "t"}, "data": {"path": "d"}, **tree}), Config)
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - it may as well be read


def load_or_refuse(path: Path, content: bytes, overrides: tuple[str, ...] = ()) -> None:
    path.write_bytes(content)
    try:
        assert isinstance(load_config(path, overrides), Config)
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - it may as well be read


@examples(150)
@given(
    content=damaged(CONFIG)
    | st.binary(max_size=40)
    | st.text("[]{}:,-?!&*#|>%@`'\"~ \n\taé0.", max_size=30).map(str.encode)
    | TREES.map(lambda tree: yaml.safe_dump(tree).encode())
)
@example(content=b"teacher: {path: ~nobody/t.keras}\ndata: {path: digits}\n")
@example(content=b"teacher: {path: 2026-13-41}\ndata: {path: digits}\n")
@example(content=b"teacher: {path: !!int x}\ndata: {path: digits}\n")
@example(content=b"teacher: {path: !!timestamp x}\ndata: {path: digits}\n")
@example(content=b"teacher: {? [a] : b}\ndata: {path: digits}\n")
@example(content=b"1: 2\nteacher: {path: t, 3: 4}\n")
@example(content=b"teacher: " + 3000 * b"[")
@example(content=b"&a [*a]")
@example(content=b"teacher: &a {path: *a}\ndata: *a")
def test_load_config_reads_or_refuses_any_file(content: bytes, tmp_path: Path) -> None:
    load_or_refuse(tmp_path / "c.yaml", content)


@examples(150)
@given(
    key=st.sampled_from(["distill.epochs", "students.sizes.small", "data.path", "kubeflow.resources.a.b", "x.y"])
    | st.text(max_size=6),
    value=st.text("[]{}:,-?!&*#|>%@`'\"~ \n\taé0.", max_size=12) | TREES.map(str),
)
@example(key="teacher.path", value="~nobody/t.keras")
@example(key="distill.epochs", value="2026-13-41")
@example(key="distill.epochs", value=3000 * "[")
@example(key="distill", value="3")
@example(key="students.sizes.small.bytes.x", value="3")
def test_load_config_accepts_or_refuses_any_override(key: str, value: str, tmp_path: Path) -> None:
    load_or_refuse(tmp_path / "c.yaml", CONFIG, (f"{key}={value}",))
