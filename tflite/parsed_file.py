# SPDX-License-Identifier: Apache-2.0
"""A .tflite file on its way: parsed once, described, edited by any number of transformations, written once.

    convert ─► parse_file ─► name_ends ─► compact ─► write_metadata ─► to_bytes
                   │                                      │
                   └── facts, read_metadata ──────────────┘

Parsing and packing a flatbuffer in Python is what takes time here. So whatever reads a file or runs it takes its bytes
or a `ParsedFile`, and neither step is repeated unless the objects have changed in between.
"""

from functools import cached_property

from ai_edge_litert import schema_py_generated as schema

from learn2compress.tflite.associated_files import append_files, split_files
from learn2compress.tflite.model_file import ModelFile, describe_model
from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import unpack


class ParsedFile:
    """The schema's objects of a .tflite file, and the files behind its flatbuffer.

    Attributes:
        objects: What the flatbuffer holds; to be read. To change it, call `edit`.
        source: The bytes it was parsed from, empty for objects made by a program. Buffers of files over 2 GB lie in it.
        file: What errors call it.
    """

    def __init__(self, objects: schema.ModelT, source: bytes = b"", *, file: str = "the model") -> None:
        self.objects = objects
        self.source = source
        self.file = file
        self._bytes = source or None
        self._facts: ModelFile | None = None

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The associated files by name, to be read and changed; a change counts once `edit` is called."""
        return split_files(self.source)[1]

    @property
    def facts(self) -> ModelFile:
        """What the file holds, as it is now.

        Raises:
            ModelFileError: Its objects contradict each other.
        """
        if self._facts is None:
            self._facts = describe_model(self.objects, self.source, file=self.file)
        return self._facts

    def edit(self) -> schema.ModelT:
        """Returns the objects for changing them: bytes and facts are made anew when they are next wanted."""
        self._bytes = self._facts = None
        return self.objects

    def to_bytes(self) -> bytes:
        """Returns the bytes of the file: those it was parsed from, or once it was edited, newly packed ones."""
        if self._bytes is None:
            self._bytes = append_files(pack(self.objects), self.files)
        return self._bytes


def parse_file(source: bytes | ParsedFile, *, file: str = "the model") -> ParsedFile:
    """Parses a .tflite file, unless it is parsed already.

    Args:
        source: The bytes of the file, or what this function made of them.
        file: What errors call it, if it is parsed here.

    Raises:
        ModelFileError: The bytes are cut short or no .tflite file.
    """
    if isinstance(source, ParsedFile):
        return source
    return ParsedFile(unpack(source, file=file), bytes(source), file=file)
