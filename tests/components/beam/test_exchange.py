# SPDX-License-Identifier: Apache-2.0
"""How a step and its workers exchange files through an object store."""

import shutil
import sys
import uuid
from functools import cache
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from PIL import Image
from support.servers.worker_pool import (
    can_hide,
    in_make_engines,
    needs_prism,
    tell_sight,
    worker_pool,
    write_hiding_python,
)

from learn2compress.components.beam import exchange
from learn2compress.components.beam.evaluation import ModelToRun, Shard, run_models
from learn2compress.components.beam.exchange import Exchange
from learn2compress.components.beam.ingestion import ingest
from learn2compress.components.beam.options import direct_runner_args
from learn2compress.components.beam.teacher_inference import import_config_of, run_teacher_inference
from learn2compress.data.example_records import make_plan
from learn2compress.data.sources.formats import open_source, resolve_task
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.digests import file_sha256
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import DataManifest, TeacherManifest, ViewRecipe, read_manifest

PLACE = "s3://bucket/exchange"
THROUGH_THE_STORE = [*direct_runner_args(1), f"--exchange={PLACE}"]


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def left(store) -> list[str]:
    return [path.name for path in store.root.rglob("*") if path.is_file()]


def ingested(config: DataConfig, folder: Path, arguments: list[str]) -> tuple[dict, dict[str, bytes]]:
    source = open_source(config)
    plan = make_plan(config, source, resolve_task(config, source), str(folder), f"{folder}-spill")
    report = ingest(beam.Pipeline(argv=arguments), source.pieces, plan)
    return report, files(folder)


@pytest.fixture(params=["npz", "folder"])
def data(request, tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 4, 4, 3), np.uint8), np.arange(60) % 3
    images[1] = images[0]  # of another class, and found as a duplicate
    if request.param == "npz":
        np.savez(tmp_path / "data.npz", images=images, labels=labels)
        return DataConfig(path=str(tmp_path / "data.npz"))
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "data" / f"class {label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "data" / f"class {label}" / f"{number}.png")
    (tmp_path / "data" / "class 0" / "bad.png").write_bytes(b"no picture")
    return DataConfig(path=str(tmp_path / "data"), height=4, width=4, channels=3, max_bad_fraction=0.1)


def test_ingest_gives_the_same_through_a_store_and_leaves_nothing_there(store, data, tmp_path):
    expected = ingested(data, tmp_path / "here", direct_runner_args(1))

    assert ingested(data, tmp_path / "there", THROUGH_THE_STORE) == expected
    assert left(store) == []


@needs_prism
@pytest.mark.slow
@pytest.mark.skipif(not can_hide(), reason="needs root, for a mount namespace")
@pytest.mark.usefixtures("store")
def test_ingest_gives_the_same_by_a_worker_that_sees_no_folder_of_the_step(data, tmp_path):
    expected = ingested(data, tmp_path / "here", direct_runner_args(1))
    with worker_pool(Path("/"), hidden=tmp_path) as arguments:
        assert ingested(data, tmp_path / "there", [*arguments, f"--exchange={PLACE}"]) == expected


@pytest.fixture
def apart(store, tmp_path, monkeypatch):  # noqa: ARG001
    """Arguments of two workers, each in a mount namespace of its own in which the folder of the test is empty."""
    python = tmp_path / "python"
    write_hiding_python(python, tmp_path)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return [*direct_runner_args(2), f"--exchange={PLACE}"]


@in_make_engines
@pytest.mark.skipif(not can_hide(), reason="needs root, for a mount namespace")
def test_all_steps_give_the_same_by_two_workers_that_share_no_folder(
    store, apart, stripes, stripes_artifacts, imported, tmp_path
):
    (tmp_path / "here.txt").touch()
    with beam.Pipeline(argv=apart) as pipeline:
        numbers = pipeline | beam.Create(range(20)) | beam.Reshuffle()
        _ = numbers | beam.Map(tell_sight, str(tmp_path / "here.txt"), f"{PLACE}/sight")
    assert [exchange.read(f"{PLACE}/sight/{name}") for name in exchange.names(f"{PLACE}/sight")] == [b"False"] * 2
    exchange.remove(f"{PLACE}/sight")

    images, labels = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), np.uint8), np.arange(300) % 3
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in map(Path, (*stripes_artifacts, imported))]
    here = direct_runner_args(1)
    for run in (
        lambda arguments, folder: ingested(DataConfig(path=str(tmp_path / "data.npz")), folder, arguments),
        lambda arguments, folder: inferred(copies[0], copies[2], folder, arguments),
        lambda arguments, folder: evaluated(stripes, *copies[:2], folder, arguments),
    ):
        results = [run(arguments, tmp_path / uuid.uuid4().hex) for arguments in (here, apart)]
        assert results[0] == results[1]
    assert left(store) == []


def test_error_of_a_worker_names_the_file_of_the_user(store, tmp_path):
    images, labels = np.full((60, 4, 4, 3), 7, np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    config = DataConfig(path=str(tmp_path / "data.npz"))
    source = open_source(config)
    plan = make_plan(config, source, resolve_task(config, source), str(tmp_path / "out"), str(tmp_path / "spill"))
    whole = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(whole[:400] + bytes(400) + whole[800:])

    with pytest.raises(DataError, match=f"^{tmp_path}/data.npz: images must be a whole array"):
        ingest(beam.Pipeline(argv=THROUGH_THE_STORE), source.pieces, plan)
    assert left(store) == []


def test_run_models_gives_the_same_through_a_store(store, stripes, stripes_artifacts, tmp_path):
    examples, logits = stripes_artifacts

    assert evaluated(stripes, examples, logits, tmp_path / "there", THROUGH_THE_STORE) == evaluated(
        stripes, examples, logits, tmp_path / "here", direct_runner_args(1)
    )
    assert left(store) == []


def evaluated(stripes, examples, logits, folder, arguments):
    data = read_manifest(examples, DataManifest)
    folder.mkdir()
    model = folder / "m.tflite"
    model.write_bytes(stripes_model(stripes))
    shards = [
        Shard("test", order, f"{examples}/Split-test/{name}", f"{logits}/Split-test/{name}")
        for order, name in enumerate(data.shards["test"])
    ]
    models = [ModelToRun("m", str(model), file_sha256(model))]
    tallies = run_models(beam.Pipeline(argv=arguments), shards, models, stripes.TASK, folder)
    return {key: (tally.ids.tolist(), tally.classes.tolist()) for key, tally in tallies.items()}


@cache
def stripes_model(stripes) -> bytes:
    import tensorflow as tf
    import tf_keras as keras

    model = keras.Sequential([keras.Input(stripes.SHAPE), keras.layers.Flatten(), keras.layers.Dense(3)])
    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


def test_teacher_inference_gives_the_same_through_a_store(store, stripes_artifacts, imported, tmp_path):
    examples = stripes_artifacts[0]

    assert inferred(examples, imported, tmp_path / "there", THROUGH_THE_STORE) == inferred(
        examples, imported, tmp_path / "here", direct_runner_args(1)
    )
    assert left(store) == []


def inferred(examples, teacher, folder, arguments):
    config = import_config_of(teacher, read_manifest(teacher, TeacherManifest))
    recipe = ViewRecipe(count=2, shift_pixels=(1, 1), flip=False, seed=1)
    data = read_manifest(examples, DataManifest)
    pipeline = beam.Pipeline(argv=arguments)
    counts = run_teacher_inference(pipeline, config, data, str(examples), str(folder), recipe, key="work")
    return counts, files(folder)


def test_offer_uploads_a_file_once_and_a_folder_whole(store, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.pb").write_bytes(b"a")
    with Exchange(PLACE) as place:
        reference = place.offer(tmp_path / "model")

        assert place.offer(tmp_path / "model") == reference
        assert left(store) == ["a.pb"]
        copy = exchange.fetch(reference)
        assert (Path(copy).name, files(Path(copy))) == ("model", {"a.pb": b"a"})
        assert exchange.fetch(reference) == copy
    assert left(store) == []


def fail_halfway(reference):
    with exchange.written(reference) as path:
        path.write_bytes(b"half")
        raise ConnectionError("lost")


def test_written_leaves_nothing_when_the_block_fails(store, tmp_path):
    for reference in (f"{PLACE}/file", str(tmp_path / "folder" / "file")):
        with pytest.raises(ConnectionError, match="lost"):
            fail_halfway(reference)
        assert exchange.read(reference) is None
    assert left(store) == []
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.usefixtures("store")
def test_read_ranges_reads_parts_in_the_order_asked_for(tmp_path):
    content = bytes(range(256)) * 1000
    ranges = [(200_000, 3), (5, 4), (9, 1), (100, 0)]
    for reference in (f"{PLACE}/file", str(tmp_path / "file")):
        exchange.write(reference, content)

        assert exchange.read_ranges(reference, ranges) == [content[a : a + n] for a, n in ranges]
