# SPDX-License-Identifier: Apache-2.0
"""Writes a model's objects as a small flatbuffer: nothing is stored twice, and there is little padding.

The converter stores every shape, scale and zero point vector of every tensor separately, although any number of offsets
may point to the same vector; and it adds padding. Here the model is first recorded as a graph of tables and vectors,
equal ones once (hash-consing), and then laid out: tables, parents before children, followed by vectors and strings, the
aligned ones first and the small ones in the gaps between them.

Every reader accepts the result, since it is valid by the format: offsets may share their target; fields with their
default value are left out; the order of tables and vectors is free, as long as offsets point forward.

Source: FlatBuffers internals, https://flatbuffers.dev/internals/
"""

import struct
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from learn2compress.tflite.schema import IDENTIFIER

# Alignment of the content of a buffer in the schema (`force_align: 16`); it is the only long vector of bytes, and a
# reader may use it in place.
_BYTES_ALIGNMENT = 16
_OFFSET = 4


def pack(model: schema.ModelT) -> bytes:
    """Packs a model's objects into a small .tflite file.

    Args:
        model: Objects of the schema.

    Returns:
        Bytes of the flatbuffer.
    """
    return pack_table(model, IDENTIFIER)


def pack_table(table: object, identifier: bytes) -> bytes:
    """Packs an object of a generated class into a flatbuffer.

    Args:
        table: Object with the method `Pack(builder)` of the object API.
        identifier: Four bytes that identify the format.

    Returns:
        Bytes of the flatbuffer.
    """
    recorder = Recorder()
    root = table.Pack(recorder)  # type: ignore[attr-defined]
    return recorder.layout(root, identifier)


@dataclass(frozen=True)
class _Table:
    fields: tuple[tuple[int, bytes | int], ...]  # (slot, packed value or id of the target of an offset)


@dataclass(frozen=True)
class _References:
    targets: tuple[int, ...]


@dataclass(frozen=True)
class _Vector:
    count: int
    content: bytes  # of a string including its terminating zero


class Recorder(flatbuffers.Builder):
    """Builder that records the tables and vectors of generated code instead of writing them.

    In place of an offset it uses the id of a recorded table or vector; equal contents have equal ids.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self._ids: dict[Hashable, int] = {}
        self._nodes: list[_Table | _References | _Vector] = []
        self._alignments: dict[int, int] = {}  # of the vectors, by id
        self._fields: dict[int, bytes | int] = {}
        self._elements: list[bytes] = []
        self._targets: list[int] = []
        self._element_alignment = 1

    # --- methods that generated code calls

    def StartObject(self, _fields: int) -> None:
        self._fields = {}

    def PrependSlot(self, flags: Any, o: int, x: Any, d: Any) -> None:
        if x is not None and x != d:
            self._fields[o] = flags.packer_type.pack(x)

    def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:
        if x != d:
            self._fields[o] = int(x)

    def EndObject(self) -> int:
        return self._record(_Table(tuple(sorted(self._fields.items()))))

    def StartVector(self, _size: int, _count: int, alignment: int) -> None:
        self._elements, self._targets = [], []
        self._element_alignment = alignment

    def Prepend(self, flags: Any, off: Any) -> None:
        self._elements.append(flags.packer_type.pack(off))

    def PrependUOffsetTRelative(self, off: int) -> None:
        self._targets.append(int(off))

    def EndVector(self) -> int:
        if self._targets:
            return self._record(_References(tuple(reversed(self._targets))))
        elements = tuple(reversed(self._elements))
        return self._vector(len(elements), b"".join(elements), self._element_alignment)

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        little = x.astype(x.dtype.newbyteorder("<"), copy=False)
        return self._vector(x.size, little.tobytes(), x.dtype.itemsize)

    def CreateByteVector(self, x: bytes) -> int:
        return self._vector(len(x), bytes(x), 1)

    def CreateString(self, s: str | bytes, encoding: str = "utf-8", errors: str = "strict") -> int:
        text = s.encode(encoding, errors) if isinstance(s, str) else bytes(s)
        return self._vector(len(text), text + b"\0", _OFFSET)

    # --- recording

    def _record(self, node: _Table | _References | _Vector) -> int:
        # Ids start at 1, since 0 means "no offset"; children are recorded before their parents and have smaller ids.
        if node not in self._ids:
            self._nodes.append(node)
            self._ids[node] = len(self._nodes)
        return self._ids[node]

    def _vector(self, count: int, content: bytes, alignment: int) -> int:
        found = self._record(_Vector(count, content))
        # The schema's short vectors of 16 bits are aligned to 4, like the length before them.
        alignment = _BYTES_ALIGNMENT if alignment == 1 else max(alignment, _OFFSET)
        self._alignments[found] = max(alignment, self._alignments.get(found, 0))
        return found

    # --- layout

    def layout(self, root: int, identifier: bytes) -> bytes:
        """Lays out the flatbuffer.

        Args:
            root: Id of the root table.
            identifier: Four bytes that identify the format.

        Returns:
            Bytes of the flatbuffer.
        """
        space = _Space(_OFFSET + len(identifier))
        tables = {i: node for i, node in enumerate(self._nodes, 1) if isinstance(node, _Table)}
        shapes = {i: _shape(table) for i, table in tables.items()}
        distinct = dict.fromkeys(vtable for vtable, _, _ in shapes.values())
        vtables = {vtable: space.take(len(vtable), 2) for vtable in distinct}
        at: dict[int, int] = {}
        # Parents first, since offsets point forward; a parent has a larger id than its children.
        for i in range(len(self._nodes), 0, -1):
            node = self._nodes[i - 1]
            if isinstance(node, _Table):
                _, size, widest = shapes[i]
                at[i] = space.take(size, widest)
            elif isinstance(node, _References):
                at[i] = space.take(_OFFSET * (1 + len(node.targets)), _OFFSET)
        space.close()
        vectors = [(i, node) for i, node in enumerate(self._nodes, 1) if isinstance(node, _Vector)]
        for i, vector in sorted(vectors, key=lambda v: (-self._alignments[v[0]], -len(v[1].content), v[0])):
            at[i] = space.fill(len(vector.content), self._alignments[i])

        out = bytearray(space.end)
        struct.pack_into("<I", out, 0, at[root])
        out[_OFFSET : _OFFSET + len(identifier)] = identifier
        for vtable, position in vtables.items():
            out[position : position + len(vtable)] = vtable
        for i, node in enumerate(self._nodes, 1):
            start = at[i]
            if isinstance(node, _Table):
                vtable = shapes[i][0]
                struct.pack_into("<i", out, start, start - vtables[vtable])
                for slot, value in node.fields:
                    field = start + struct.unpack_from("<H", vtable, 4 + 2 * slot)[0]
                    packed = struct.pack("<I", at[value] - field) if isinstance(value, int) else value
                    out[field : field + len(packed)] = packed
            elif isinstance(node, _References):
                struct.pack_into("<I", out, start, len(node.targets))
                for k, target in enumerate(node.targets, 1):
                    struct.pack_into("<I", out, start + _OFFSET * k, at[target] - start - _OFFSET * k)
            else:
                struct.pack_into("<I", out, start, node.count)
                out[start + _OFFSET : start + _OFFSET + len(node.content)] = node.content
        return bytes(out)


def _shape(table: _Table) -> tuple[bytes, int, int]:
    """Computes a table's vtable, size in bytes and alignment. Wide fields come first, so that there is no padding."""
    width = {slot: _OFFSET if isinstance(value, int) else len(value) for slot, value in table.fields}
    size, offsets = _OFFSET, {}
    for slot in sorted(width, key=lambda s: (-width[s], s)):
        size += -size % width[slot]
        offsets[slot] = size
        size += width[slot]
    slots = [offsets.get(slot, 0) for slot in range(max(offsets, default=-1) + 1)]
    vtable = struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), size, *slots)
    return vtable, size, max([_OFFSET, *width.values()])


class _Space:
    """Allocator of positions in the file: at its end, or in alignment gaps after `close`."""

    def __init__(self, start: int) -> None:
        self.end = start
        self._gaps: list[tuple[int, int]] = []

    def take(self, size: int, alignment: int) -> int:
        """Allocates an aligned position at the end."""
        position = self.end + -self.end % alignment
        self.end = position + size
        return position

    def close(self) -> None:
        """Ends the ordered part; gaps before it stay empty, since offsets only point forward."""
        self._gaps = []

    def fill(self, size: int, alignment: int) -> int:
        """Allocates a position for a vector of `size` bytes, preceded by its length, with aligned content."""
        best = None
        for start, stop in self._gaps:
            position = start + -(start + _OFFSET) % alignment
            room = stop - position - _OFFSET - size
            if room >= 0 and (best is None or room < best[0]):
                best = (room, position, (start, stop))
        if best is not None:
            _, position, (start, stop) = best
            self._gaps.remove((start, stop))
        else:
            start, position = self.end, self.end + -(self.end + _OFFSET) % alignment
            stop = self.end = position + _OFFSET + size
        after = position + _OFFSET + size
        left = ((start, position), (after + -after % _OFFSET, stop))
        self._gaps += [gap for gap in left if gap[1] - gap[0] >= 2 * _OFFSET]
        return position
