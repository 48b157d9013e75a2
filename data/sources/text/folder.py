# SPDX-License-Identifier: Apache-2.0
"""Reads texts in folders: one sub-folder of .txt files for each class, with or without train/, test/ above them.

reviews/positive/1.txt            or   reviews/train/positive/1.txt
reviews/negative/2.txt                 reviews/test/negative/2.txt
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from learn2compress.data.raw_examples import EvenSample, ExampleSource, Part, Piece, RawExample, order_classes
from learn2compress.data.sources.folder import visible_files
from learn2compress.data.sources.text.files import PARTS
from learn2compress.data.sources.text.lengths import Lengths
from learn2compress.modalities.text.records import decode_file
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.digests import tree_sha256
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import BadFile

SUFFIX = ".txt"
FILES_A_PIECE = 2000
_MEASURED = 2000  # files whose length is looked at


@dataclass(frozen=True)
class TextFilesPiece(Piece):
    """Some files of one part.

    Attributes:
        root: Folder that the names are relative to.
        part: Part of the files.
        files: Name and label of each file.
    """

    root: str
    part: Part
    files: tuple[tuple[str, int], ...]

    def read(self) -> Iterator[RawExample | BadFile]:
        for name, label in self.files:
            try:
                text = decode_file(Path(self.root, name).read_bytes())
            except (OSError, ValueError) as error:
                yield BadFile(source=name, reason=str(error))
                continue
            yield RawExample(name, self.part, label, text)


def open_text_folder(config: DataConfig, limit: int | None = None) -> ExampleSource:
    """Opens a folder of texts.

    Raises:
        DataError: There are fewer than two classes, or a part has a class that train lacks.
    """
    root = Path(config.path)
    listings: dict[Part, dict[str, list[str]]] = {}
    passed: list[str] = []
    for name in visible_files(root, root):
        part, kind = _place(name)
        if kind is None or not name.lower().endswith(SUFFIX):
            passed.append(name)
            continue
        listings.setdefault(part, {}).setdefault(kind, []).append(name)
    if len(listings) > 1 and (None in listings or "train" not in listings):
        raise DataError(
            f"folder {root} must hold train/ and may hold validation/ and test/, or class folders alone; got "
            f"{', '.join(str(part or 'class folders') for part in listings)}. Move or rename a folder."
        )
    main = listings.get("train", listings.get(None, {}))
    classes = order_classes(sorted(main), config.classes, f"folder {root}")
    counts: dict[Part, int] = {}
    pieces: list[TextFilesPiece] = []
    for part, listing in listings.items():
        strange = sorted(set(listing) - set(classes))
        if strange:
            raise DataError(
                f"the classes of {part} in {root} must be among those of train; got {strange[0]!r}. Add training texts "
                "of it, or remove its folder."
            )
        files = [(name, label) for label, of in enumerate(classes) for name in listing.get(of, [])]
        sample = EvenSample(len(files), limit)
        counts[part] = len(sample)
        for positions in sample.ranges(FILES_A_PIECE):
            pieces.append(TextFilesPiece(str(root), part, tuple(files[sample.row(p)] for p in positions)))
    some = f", {len(passed)}: {', '.join(passed[:3])}" if passed else ""
    notes = (f"files in {root} that are no .txt files of a class{some}",) if passed else ()
    return ExampleSource(classes, counts, _length(root, main), pieces, modality="text", notes=notes)


def text_folder_digest(config: DataConfig) -> str:
    """Computes the digest of all files in the folder."""
    return tree_sha256(config.path)


def _place(name: str) -> tuple[Part, str | None]:
    """Returns the part and the class of a file by its folders."""
    folders = Path(name).parts[:-1]
    if len(folders) > 1 and folders[0].lower() in PARTS:
        return PARTS[folders[0].lower()], folders[1]
    return None, folders[0] if folders else None


def _length(root: Path, listing: dict[str, list[str]]) -> tuple[int] | None:
    names = [name for of in listing.values() for name in of]
    sample, lengths = EvenSample(len(names), _MEASURED), Lengths()
    for position in range(len(sample)):
        lengths.add((root / names[sample.row(position)]).read_text(encoding="utf-8", errors="replace"))
    return lengths.suggest()
