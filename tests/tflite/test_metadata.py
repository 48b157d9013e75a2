# SPDX-License-Identifier: Apache-2.0
import io
import random
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support.tflite_files import compact, write_metadata

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.associated_files import append_files, split_files
from learn2compress.tflite.interpreter import open_model
from learn2compress.tflite.metadata import ModelMetadata, read_metadata
from learn2compress.tflite.model_file import read_model
from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import unpack

LABELS = ["tench", "great white shark", "Käfer", "ostrich"]


def _described(data, **changes):
    return write_metadata(data, **{"name": "Student", "description": "Tells four.", "labels": LABELS, **changes})


@pytest.mark.parametrize("variant", ["float32", "int8", "uint8"])
def test_read_metadata_returns_what_was_written(tflite_models, variant):
    described = _described(
        tflite_models[variant],
        mean=[127.5, 120.0, 110.25],
        std=[58.0, 57.0, 56.5],
        version="3",
        author="A. Author",
        license="Apache-2.0",
        output_name="logits",
    )
    assert read_metadata(described) == ModelMetadata(
        name="Student",
        description="Tells four.",
        version="3",
        author="A. Author",
        license="Apache-2.0",
        input_name="image",
        output_name="logits",
        mean=(127.5, 120.0, 110.25),
        std=(58.0, 57.0, 56.5),
        labels=tuple(LABELS),
        min_parser_version="1.0.0",
    )


def test_read_metadata_returns_empty_texts_if_none_were_written(tflite_models):
    read = read_metadata(_described(tflite_models["uint8"]))
    assert (read.version, read.author, read.license) == ("", "", "")
    assert (read.mean, read.std, read.output_name) == ((0.0,), (1.0,), "probability")


@pytest.mark.parametrize("variant", ["float32", "int8", "uint8"])
def test_write_metadata_does_not_change_predictions(tflite_models, pixels, variant):
    plain, described = tflite_models[variant], _described(tflite_models[variant])
    assert np.array_equal(open_model(plain).predict(pixels), open_model(described).predict(pixels))


def test_write_metadata_packs_labels_uncompressed_in_a_zip_archive(tflite_models):
    described = _described(tflite_models["uint8"])
    with zipfile.ZipFile(io.BytesIO(described)) as archive:
        assert archive.testzip() is None
        entry = archive.getinfo("labels.txt")
        assert entry.compress_type == zipfile.ZIP_STORED
        assert archive.read(entry) == "tench\ngreat white shark\nKäfer\nostrich\n".encode()
    # In place, as Android reads them, without unpacking.
    assert "tench\ngreat white shark\nKäfer\nostrich\n".encode() in described


def test_write_metadata_uses_the_slots_of_the_schema(tflite_models):
    model = unpack(_described(tflite_models["uint8"], license="Apache-2.0"))
    entry = next(entry for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    content = model.buffers[entry.buffer].data.tobytes()
    assert content[4:8] == b"M001"
    root = flatbuffers.table.Table(content, int.from_bytes(content[:4], "little"))

    def text(table, vtable_offset):
        return table.String(table.Offset(vtable_offset) + table.Pos)

    def child(table, vtable_offset, index=0):
        vector = table.Vector(table.Offset(vtable_offset))
        return flatbuffers.table.Table(content, table.Indirect(vector + 4 * index))

    def indirect(table, vtable_offset):
        return flatbuffers.table.Table(content, table.Indirect(table.Offset(vtable_offset) + table.Pos))

    # Vtable offset = 4 + 2 · position of the field in metadata_schema.fbs.
    assert text(root, 4) == b"Student"
    assert text(root, 6) == b"Tells four."
    assert root.Offset(8) == 0  # version, not given
    assert text(root, 14) == b"Apache-2.0"
    assert text(root, 18) == b"1.0.0"
    graph = child(root, 10)
    image, scores = child(graph, 8), child(graph, 10)
    assert (text(image, 4), text(scores, 4)) == (b"image", b"probability")
    for tensor, kind in ((image, 2), (scores, 1)):
        found = indirect(tensor, 10)
        assert content[found.Offset(4) + found.Pos] == kind
    properties = indirect(indirect(image, 10), 6)
    assert content[properties.Offset(4) + properties.Pos] == 1  # RGB
    unit = child(image, 12)
    assert content[unit.Offset(4) + unit.Pos] == 1  # NormalizationOptions
    options = indirect(unit, 6)
    assert options.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, options.Offset(6)).tolist() == [1.0]
    labels = child(scores, 16)
    assert text(labels, 4) == b"labels.txt"
    assert content[labels.Offset(8) + labels.Pos] == 2  # TENSOR_AXIS_LABELS


def test_write_metadata_replaces_existing_metadata(tflite_models):
    first = _described(tflite_models["uint8"])
    second = _described(first, name="Renamed", labels=["a", "b", "c", "d"])
    assert read_metadata(second).name == "Renamed"
    assert read_metadata(second).labels == ("a", "b", "c", "d")
    assert [entry.name for entry in unpack(second).metadata].count(b"TFLITE_METADATA") == 1
    assert _described(second) == first


def test_write_metadata_keeps_other_files_in_the_model(tflite_models):
    described = _described(append_files(tflite_models["uint8"], {"readme.txt": b"hello"}))
    assert split_files(described)[1]["readme.txt"] == b"hello"


def test_compact_keeps_metadata(tflite_models):
    described = _described(tflite_models["uint8"])
    assert read_metadata(compact(described)) == read_metadata(described)
    assert _described(compact(tflite_models["uint8"])) == compact(described)


def test_read_metadata_returns_none_for_a_file_without_metadata(tflite_models):
    assert read_metadata(tflite_models["uint8"]) is None


def test_write_metadata_refuses_labels_that_do_not_match_the_classes(tflite_models):
    with pytest.raises(ModelFileError, match=r"got 3 labels for 4 classes of student.tflite"):
        _described(tflite_models["uint8"], labels=LABELS[:3], file="student.tflite")


@pytest.mark.parametrize("label", ["", "  ", "two\nlines"])
def test_write_metadata_refuses_a_label_that_is_not_one_line(tflite_models, label):
    with pytest.raises(ModelFileError, match=r"A label must be one line that is not empty; got "):
        _described(tflite_models["uint8"], labels=[*LABELS[:3], label])


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.0, 0.0], [1.0, 1.0]), ([0.0], [1.0, 1.0, 1.0]), ([0.0], [0.0]), ([float("nan")], [1.0]), ([], [])],
)
def test_write_metadata_refuses_a_normalization_that_does_not_match(tflite_models, mean, std):
    with pytest.raises(ModelFileError, match=r"one mean and std, or one a channel \(3\), with std not 0; got mean"):
        _described(tflite_models["uint8"], mean=mean, std=std)


def test_write_metadata_refuses_a_model_whose_input_is_not_an_image(tflite_models):
    model = unpack(tflite_models["uint8"])
    model.subgraphs[0].tensors[int(model.subgraphs[0].inputs[0])].shape = [1, 432]
    with pytest.raises(ModelFileError, match=r"images \[1, height, width, 1 or 3\]; got the input \[1, 432\]"):
        _described(pack(model))


def test_read_metadata_refuses_a_file_without_its_labels(tflite_models):
    described = _described(tflite_models["uint8"])
    with pytest.raises(ModelFileError, match=r"got cut.tflite.*the archive with the labels 'labels.txt' is cut short"):
        read_metadata(described[:-30], file="cut.tflite")


def test_read_metadata_refuses_another_format(tflite_models):
    model = unpack(tflite_models["uint8"])
    model.buffers.append(schema.BufferT(data=np.frombuffer(b"\x08\0\0\0X999....", np.uint8)))
    model.metadata = [schema.MetadataT(name="TFLITE_METADATA", buffer=len(model.buffers) - 1)]
    with pytest.raises(ModelFileError, match=r"metadata are of the format b'X999', not b'M001'"):
        read_metadata(pack(model))


def test_read_metadata_raises_no_other_error_on_damaged_files(tflite_models):
    described, chance = _described(compact(tflite_models["uint8"])), random.Random(9)
    start = len(split_files(described)[0])
    metadata = described.index(b"M001")
    for trial in range(300):
        damaged = bytearray(described)
        first, last = ((start, len(described)), (metadata, metadata + 400))[trial % 2]
        damaged[chance.randrange(first, min(last, len(described)))] = chance.randrange(256)
        data = bytes(damaged)[: None if trial % 3 else chance.randrange(start, len(described))]
        try:
            read_metadata(data)
        except ModelFileError:
            continue
        assert read_model(data).parameters == 414


def test_append_files_gives_the_same_bytes_for_the_same_files():
    files = {"a.txt": b"1", "b.txt": b"2" * 100}
    assert append_files(b"model", files) == append_files(b"model", files)
    assert split_files(append_files(b"model", files)) == (b"model", files)
    assert append_files(b"model", {}) == b"model"
    assert split_files(b"model") == (b"model", {})


def test_read_metadata_names_the_labels_that_another_tool_left_out(tflite_models):
    described = _described(tflite_models["uint8"])
    found = read_metadata(pack(unpack(described)))  # the flatbuffer alone, as Vela writes it
    assert (found.labels, found.lost_labels) == ((), "labels.txt")
    assert read_metadata(described).lost_labels == ""


def test_split_files_refuses_an_archive_that_unfolds_a_thousandfold():
    stream = io.BytesIO(b"TFL3 model")
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", bytes((64 << 20) + 1))

    with pytest.raises(
        ModelFileError, match=r"packed into a model must have at most 67,108,864 bytes; they declare 67"
    ):
        split_files(stream.getvalue())
