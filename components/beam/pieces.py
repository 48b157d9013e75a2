# SPDX-License-Identifier: Apache-2.0
"""Lets workers read the pieces of a source through an exchange.

A piece is a dataclass that names what it reads: `path`, a file, in itself or in a part of it such as an array; or
`root`, a folder, with `files`, the names of those that it reads. A file is uploaded once for all pieces. The files of a
folder are uploaded in one archive for each piece, since a store takes a million small files slowly.
"""

import dataclasses
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from learn2compress.components.beam.exchange import Exchange, fetch, fetched
from learn2compress.data.raw_examples import Piece, RawExample
from learn2compress.schemas.files.inside import path_inside
from learn2compress.schemas.manifests import BadFile


def offer_piece(piece: Piece, exchange: Exchange) -> Piece:
    """Makes a piece that workers can read; without an exchange, the piece itself."""
    if exchange.place is None:
        return piece
    if hasattr(piece, "root") and hasattr(piece, "files"):
        with tempfile.TemporaryDirectory(prefix="learn2compress-") as folder:
            packed = Path(folder, "files.tar")
            _pack(Path(piece.root), [name for name, _ in piece.files], packed)
            return _PackedPiece(piece, exchange.offer(packed))
    references: dict[str, str] = {}

    def offer(path: str) -> str:
        references[path] = exchange.offer(path)
        return path

    _with_paths(piece, offer)
    return _OfferedPiece(piece, references) if references else piece


@dataclass(frozen=True)
class _PackedPiece(Piece):
    """A piece of a folder, whose files are in an archive."""

    piece: Piece
    archive: str

    def read(self) -> Iterator[RawExample | BadFile]:
        with fetched(self.archive) as archive, tempfile.TemporaryDirectory(prefix="learn2compress-") as folder:
            _unpack(Path(archive), Path(folder))
            yield from dataclasses.replace(cast(Any, self.piece), root=folder).read()


@dataclass(frozen=True)
class _OfferedPiece(Piece):
    """A piece of files that are in a store, each under a reference."""

    piece: Piece
    references: Mapping[str, str]

    def read(self) -> Iterator[RawExample | BadFile]:
        yield from _with_paths(self.piece, lambda path: fetch(self.references[path])).read()


def _with_paths(value: Any, change: Callable[[str], str]) -> Any:
    """Changes the field `path` of a dataclass, and of the dataclasses in its fields."""
    changes = {}
    for field in dataclasses.fields(value):
        old = getattr(value, field.name)
        if field.name == "path":
            changes["path"] = type(old)(change(str(old)))
        elif dataclasses.is_dataclass(old):
            changes[field.name] = _with_paths(old, change)
    return dataclasses.replace(value, **changes) if changes else value


def _pack(root: Path, names: list[str], archive: Path) -> None:
    """Packs files; those that cannot be read are left out, so that reading them names them."""
    with tarfile.open(archive, "w", dereference=True) as packed:
        for name in names:
            if (root / name).is_file():
                packed.add(root / name, name)


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as packed:
        for member in packed:
            target = path_inside(folder, member.name)
            content = packed.extractfile(member)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read() if content else b"")
