# SPDX-License-Identifier: Apache-2.0
"""A .tflite file in memory: parsed once, described, edited by any number of transformations, written once.

    convert ─► parse_file ─► name_ends ─► compact ─► write_metadata ─► to_bytes
                   │                                      │
                   └── facts, read_metadata ──────────────┘

Parsing and packing a flatbuffer in Python takes most of the time here. Therefore functions that read a file or run it
accept its bytes or a `ParsedFile`, and neither step is repeated unless the objects have changed.
"""

from functools import cached_property

from ai_edge_litert import schema_py_generated as schema

from learn2compress.schemas.errors import ModelFileError
from learn2compress.tflite.associated_files import append_files, split_files
from learn2compress.tflite.model_file import ModelFile, describe_model
from learn2compress.tflite.packing import pack
from learn2compress.tflite.schema import buffer_content, unpack
from learn2compress.tflite.signatures import DEFAULT_SIGNATURE, Signature, bring_to_front


class ParsedFile:
    """The schema's objects of a .tflite file, and the files behind its flatbuffer.

    Attributes:
        objects: Objects of the flatbuffer, for reading. To change them, call `edit`.
        source: Bytes that the file was parsed from, empty for objects made by a program. They contain the buffers of
            files over 2 GB.
        file: Name of the file in error messages.
    """

    def __init__(self, objects: schema.ModelT, source: bytes = b"", *, file: str = "the model") -> None:
        self.objects = objects
        self.source = source
        self.file = file
        self._bytes = source or None
        self._facts: ModelFile | None = None

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Associated files by name, for reading and changing; a change takes effect after `edit` is called."""
        return split_files(self.source)[1]

    @property
    def facts(self) -> ModelFile:
        """Description of the present contents of the file.

        Raises:
            ModelFileError: The objects are inconsistent.
        """
        if self._facts is None:
            self._facts = describe_model(self.objects, self.source, file=self.file)
        return self._facts

    def content_of(self, tensor: int) -> bytes:
        """Returns the bytes of a constant of the first subgraph, by its index; none of a tensor that is computed."""
        stored = self.objects.subgraphs[0].tensors[tensor]
        content = buffer_content(self.objects.buffers[stored.buffer], self.source)
        return b"" if content is None else content.tobytes()

    def edit(self) -> schema.ModelT:
        """Returns the objects for changing them; bytes and facts are computed again when they are next used."""
        self._bytes = self._facts = None
        return self.objects

    def to_bytes(self) -> bytes:
        """Returns the bytes of the file: those that it was parsed from, or newly packed ones after an edit."""
        if self._bytes is None:
            self._bytes = append_files(pack(self.objects), self.files)
        return self._bytes


def parse_file(source: bytes | ParsedFile, *, file: str = "the model") -> ParsedFile:
    """Parses a .tflite file, unless it is parsed already.

    Args:
        source: Bytes of the file, or a parsed file, which is returned unchanged.
        file: Name of the file in error messages, if it is parsed here.

    Raises:
        ModelFileError: The bytes are truncated or not a .tflite file.
    """
    if isinstance(source, ParsedFile):
        return source
    return ParsedFile(unpack(source, file=file), bytes(source), file=file)


def choose_signature(model: ModelFile, wanted: str | None = None) -> Signature | None:
    """Chooses the entry point: the wanted one, or serving_default, or the only one; None where there is none.

    Raises:
        ModelFileError: A choice has to be made, or is wrong.
    """
    names = [found.name for found in model.signatures]
    choice = DEFAULT_SIGNATURE if wanted is None and DEFAULT_SIGNATURE in names else wanted
    if choice is None and len(names) <= 1:
        return next(iter(model.signatures), None)
    if choice is None or choice not in names:
        raise ModelFileError(
            f"The signature must be one of {', '.join(names) or 'none'}; got {choice or 'no choice'} for {model.file}. "
            + ("Choose one with --signature." if names else "Leave --signature out.")
        )
    return model.signatures[names.index(choice)]


def default_signature(parsed: ParsedFile) -> ParsedFile:
    """Returns a file with that subgraph in front that is run where no signature is chosen."""
    named = {found.name: found for found in parsed.facts.signatures}
    alone = parsed.facts.signatures[0] if len(named) == 1 else None
    return in_front(parsed, named.get(DEFAULT_SIGNATURE, alone))


def in_front(parsed: ParsedFile, chosen: Signature | None) -> ParsedFile:
    """Returns a file with the subgraph of a signature in front."""
    if chosen is None or not chosen.subgraph:
        return parsed
    moved = ParsedFile(parse_file(parsed.to_bytes(), file=parsed.file).objects, parsed.source, file=parsed.file)
    bring_to_front(moved.edit(), chosen.subgraph)
    return moved
