# SPDX-License-Identifier: Apache-2.0
"""For any bytes, readers of .tflite files return a value or raise a Learn2CompressError."""

import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from support.strategies.properties import damaged, examples, with_flipped_bytes

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.associated_files import append_files
from learn2compress.tflite.metadata import ENTRY, ModelMetadata, read_metadata
from learn2compress.tflite.model_file import ModelFile, read_model
from learn2compress.tflite.packing import pack
from learn2compress.tflite.parsed_file import parse_file
from learn2compress.tflite.schema import buffer_content, unpack
from learn2compress.tflite.transformations.metadata import write_metadata


def described() -> bytes:
    """A model of two tensors, with metadata and labels."""
    tensors = [schema.TensorT(name="image", shape=[1, 4, 4, 3]), schema.TensorT(name="scores", shape=[1, 2])]
    graph = schema.SubGraphT(tensors=tensors, operators=[], inputs=[0], outputs=[1])
    model = schema.ModelT(version=3, operatorCodes=[], subgraphs=[graph], buffers=[schema.BufferT()])
    parsed = parse_file(pack(model))
    write_metadata(parsed, name="Two", description="Two classes.", labels=["cat", "dog"], mean=[1], std=[2])
    return parsed.to_bytes()


DESCRIBED = described()


def with_metadata(content: bytes) -> bytes:
    """The model with other bytes as its metadata."""
    model = unpack(DESCRIBED)
    (entry,) = (entry for entry in model.metadata if entry.name == ENTRY)
    model.buffers[entry.buffer] = schema.BufferT(data=list(content))
    return append_files(pack(model), {"labels.txt": b"cat\ndog\n"})


def metadata_bytes() -> bytes:
    """The flatbuffer of the metadata."""
    model = unpack(DESCRIBED)
    (entry,) = (entry for entry in model.metadata if entry.name == ENTRY)
    return buffer_content(model.buffers[entry.buffer], DESCRIBED).tobytes()


def read_or_refuse(data: bytes) -> None:
    try:
        found = read_metadata(data, file="x.tflite")
    except ModelFileError as error:
        assert "x.tflite" in str(error)  # noqa: PT017 - it may as well be read
    else:
        assert found is None or isinstance(found, ModelMetadata)


@examples(150)
@given(
    data=damaged(DESCRIBED) | with_flipped_bytes(DESCRIBED) | st.binary(max_size=64).map(lambda b: b"\0\0\0\0TFL3" + b)
)
def test_read_metadata_reads_or_refuses_any_file(data: bytes) -> None:
    read_or_refuse(data)


@examples(150)
@given(content=damaged(metadata_bytes()) | with_flipped_bytes(metadata_bytes()) | st.binary(max_size=64))
def test_read_metadata_reads_or_refuses_any_metadata(content: bytes) -> None:
    read_or_refuse(with_metadata(content))


@examples(100)
@given(data=damaged(DESCRIBED) | with_flipped_bytes(DESCRIBED))
def test_read_model_reads_or_refuses_any_file(data: bytes) -> None:
    try:
        model = read_model(data, file="x.tflite")
    except ModelFileError:
        return
    assert isinstance(model, ModelFile)


def test_damaged_files_are_both_read_and_refused() -> None:
    assert read_metadata(DESCRIBED).labels == ("cat", "dog")
    assert read_metadata(with_metadata(metadata_bytes())).labels == ("cat", "dog")
    with pytest.raises(ModelFileError, match="its metadata cannot be read"):
        read_metadata(with_metadata(metadata_bytes()[:-40]))
