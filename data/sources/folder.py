# SPDX-License-Identifier: Apache-2.0
"""Reads images in folders: one sub-folder for each class, with or without train/, validation/ and test/ above them.

    flowers/daisy/1.jpg                   or   flowers/train/daisy/1.jpg
    flowers/rose/2.png                         flowers/test/rose/2.png

Sub-folders of a class folder belong to the class. Hidden files and those that desktop systems create are skipped. What
else is no picture, or one of a kind that cannot be read, is skipped, counted and named; so is a folder without any.
A file whose name says that it is a picture, and that cannot be decoded, counts as an unreadable example.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from learn2compress.data.raw_examples import EvenSample, ExampleSource, Part, Piece, RawExample, order_classes
from learn2compress.modalities.image.pixels import (
    HEIC_SUFFIXES,
    MOST_PIXELS,
    OTHER_PICTURES,
    read_picture,
    readable_suffixes,
)
from learn2compress.schemas.config import DataConfig
from learn2compress.schemas.digests import tree_sha256
from learn2compress.schemas.errors import DataError
from learn2compress.schemas.manifests import BadFile

PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
FILES_A_PIECE = 500
_LITTER = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class FolderPiece(Piece):
    """Some files of one part.

    Attributes:
        root: Folder that the names are relative to.
        files: Name and label of each file.
        max_pixels: Pixels of the largest picture that is decoded.
    """

    root: str
    part: Part
    files: tuple[tuple[str, int], ...]
    max_pixels: int = MOST_PIXELS

    def read(self) -> Iterator[RawExample | BadFile]:
        for name, label in self.files:
            try:
                image, file = read_picture(Path(self.root, name), self.max_pixels)
            except ValueError as error:
                yield BadFile(source=name, reason=str(error))
                continue
            yield RawExample(name, self.part, label, image, file=file)


@dataclass
class Passed:
    """What is passed over in a folder.

    Attributes:
        files: That are no pictures.
        pictures: Of a kind that cannot be read.
        folders: Without pictures.
        outside: Pictures that lie in no class folder.
        links: Links to folders inside of a class folder.
    """

    files: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def sort_out(self, names: list[str]) -> list[str]:
        """Return the files that can be read by what their names say, and note the others."""
        readable = [name for name in names if name.lower().endswith(readable_suffixes())]
        for name in sorted(set(names) - set(readable)):
            (self.pictures if name.lower().endswith(OTHER_PICTURES) else self.files).append(name)
        return readable

    def notes(self, where: str) -> Iterator[str]:
        """Say in a sentence for each kind what was passed over."""
        if self.pictures:
            heic = any(name.lower().endswith(HEIC_SUFFIXES) for name in self.pictures)
            remedy = "; install pillow-heif to read HEIC, or convert them to JPEG" if heic else "; convert them to PNG"
            yield f"pictures in {where} that cannot be read, {len(self.pictures)}: {_some(self.pictures)}{remedy}"
        if self.files:
            yield f"files in {where} that are no pictures, {len(self.files)}: {_some(self.files)}"
        if self.outside:
            yield f"pictures in {where} that lie in no class folder, {len(self.outside)}: {_some(self.outside)}"
        if self.links:
            yield f"links to folders in {where} that are not followed, {len(self.links)}: {_some(self.links)}"
        if self.folders:
            yield f"folders in {where} without pictures, {len(self.folders)}: {_some(self.folders)}"


def open_folder(config: DataConfig, limit: int | None = None) -> ExampleSource:
    """Open a folder of images.

    Raises:
        DataError: The folder has no or a single class folder, a class of unreadable pictures alone, or a part has a
            class that train lacks.
    """
    root = Path(config.path)
    passed = Passed()
    parts = _part_folders(root, passed)
    listings = {part: _class_files(root, folder, passed) for part, folder in parts.items()}
    main = next(iter(listings))
    classes = order_classes(sorted(listings[main]), config.classes, f"folder {parts[main]}")
    for part, listing in listings.items():
        strange = sorted(set(listing) - set(classes))
        if strange:
            raise DataError(
                f"the classes of {parts[part]} must be among those of {parts[main]}; got {strange[0]!r}, which "
                f"has no folder there. Add training images of it, or remove {parts[part] / strange[0]}."
            )
    counts: dict[Part, int] = {}
    pieces = []
    for part, listing in listings.items():
        files = [(name, label) for label, of in enumerate(classes) for name in listing.get(of, [])]
        sample = EvenSample(len(files), limit)
        counts[part] = len(sample)
        for positions in sample.ranges(FILES_A_PIECE):
            chosen = tuple(files[sample.row(position)] for position in positions)
            pieces.append(FolderPiece(str(root), part, chosen, config.max_pixels))
    notes = (*passed.notes(str(root)), *_numbered(classes, config))
    return ExampleSource(classes, counts, None, pieces, notes=notes)


def _numbered(classes: tuple[str, ...], config: DataConfig) -> Iterator[str]:
    """Say in which order classes stand that are named by numbers, where there are two orders."""
    if config.classes is None and all(name.isdecimal() for name in classes) and sorted(classes, key=int) != [*classes]:
        yield (
            f"the class folders of {config.path} are in the order of text, as in Keras ({_some([*classes])}); for the "
            "order of numbers, name them in data.classes (evaluate: --classes)"
        )


def folder_digest(config: DataConfig) -> str:
    """Compute the digest of all files in the folder."""
    return tree_sha256(config.path)


def _part_folders(root: Path, passed: Passed) -> dict[Part, Path]:
    """Return the folders that hold class folders, by part; train, or the one without a part, comes first."""
    folders = _subfolders(root)
    passed.outside += _pictures_beside(root, root)
    # A class may also be named `train` (for vehicles, say): then the folder holds images and not folders.
    named = [folder for folder in folders if folder.name.lower() in PARTS and _subfolders(folder)]
    if not named:
        if not folders:
            raise DataError(
                f"folder {root} must hold a sub-folder of images for each class; got no sub-folder. "
                "Sort the images into folders named after their classes."
            )
        return {None: root}
    parts: dict[Part, Path] = {}
    for folder in named:
        part = PARTS[folder.name.lower()]
        if part in parts:
            raise DataError(
                f"folder {root} must hold one folder a split; got {parts[part].name} and {folder.name}. Merge the two."
            )
        parts[part] = folder
    strangers: list[str] = []
    for folder in (folder for folder in folders if folder not in named):
        pictures = [name for name in visible_files(root, folder) if name.lower().endswith(readable_suffixes())]
        (strangers if pictures else passed.folders).append(folder.name)
    if "train" not in parts or strangers:
        got = (
            f"{strangers[0]!r} beside them"
            if strangers
            else f"{', '.join(folder.name for folder in named)} without train"
        )
        raise DataError(
            f"folder {root} must hold train/ and may hold validation/ and test/, or class folders alone; got {got}. "
            "Move the folder, or rename it; to evaluate files on the test images alone, give the test folder."
        )
    for folder in named:
        passed.outside += _pictures_beside(root, folder)
    return {part: parts[part] for part in ("train", "validation", "test") if part in parts}


def _class_files(root: Path, folder: Path, passed: Passed) -> dict[str, list[str]]:
    """List the files of each class folder, as sorted names relative to the root."""
    listing: dict[str, list[str]] = {}
    for class_folder in _subfolders(folder):
        before = len(passed.pictures)
        passed.links += _links(root, class_folder)
        names = passed.sort_out(visible_files(root, class_folder))
        if names:
            listing[class_folder.name] = names
        elif len(passed.pictures) > before:
            got = _some(passed.pictures[before:])
            raise DataError(
                f"class folder {class_folder} must hold images that can be read; got {got}. "
                "Convert them to JPEG or PNG; HEIC is read where pillow-heif is installed."
            )
        else:
            passed.folders.append(class_folder.relative_to(root).as_posix())
    return listing


def visible_files(root: Path, folder: Path) -> list[str]:
    """List the files below a folder, as sorted names relative to the root, without those that desktop systems create.

    Raises:
        DataError: A folder cannot be read.
    """
    names = []
    for place, subfolders, files in os.walk(folder, onerror=_raise_unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        visible = (name for name in files if not name.startswith(".") and name.lower() not in _LITTER)
        names += [Path(place, name).relative_to(root).as_posix() for name in visible]
    return sorted(names)


def _pictures_beside(root: Path, folder: Path) -> list[str]:
    """List the pictures that lie directly in a folder of class folders, as sorted names relative to the root."""
    files = (file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    return sorted(f.relative_to(root).as_posix() for f in files if f.name.lower().endswith(readable_suffixes()))


def _links(root: Path, folder: Path) -> Iterator[str]:
    """Name the links to folders below a folder, which are not followed since they may lead in a circle."""
    for place, subfolders, _ in os.walk(folder):
        links = (Path(place, name) for name in sorted(subfolders) if not name.startswith("."))
        yield from (link.relative_to(root).as_posix() for link in links if link.is_symlink())


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    except OSError as error:
        _raise_unreadable(error)


def _raise_unreadable(error: OSError) -> NoReturn:
    raise DataError(
        f"folder {error.filename} must be readable; got: {error.strerror}. Check its permissions."
    ) from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
