# SPDX-License-Identifier: Apache-2.0
"""Reads texts without labels: tables with a column of texts, or a folder of .txt files of any depth."""

from pathlib import Path

from learn2compress.data.raw_examples import UNLABELED, EvenSample, Piece
from learn2compress.data.sources.folder import visible_files
from learn2compress.data.sources.text.columns import find_columns
from learn2compress.data.sources.text.files import list_tables, table_format, tables_digest
from learn2compress.data.sources.text.folder import FILES_A_PIECE, SUFFIX, TextFilesPiece, text_folder_digest
from learn2compress.data.sources.text.rows import column_names
from learn2compress.data.sources.text.tables import Table, make_pieces
from learn2compress.schemas.config import DataConfig

NO_LABEL = -1


def open_unlabeled_texts(config: DataConfig, limit: int | None = None) -> tuple[int, list[Piece]]:
    """Opens the texts at `data.path`; labels and splits there are ignored.

    Args:
        config: Section `data`, whose path is that of the texts.
        limit: Number of texts to take, evenly spaced; None for all.

    Returns:
        The number of texts and the pieces.

    Raises:
        DataError: There are no texts, or a column is missing.
    """
    root = Path(config.path)
    if _is_folder_of_texts(root):
        names = [name for name in visible_files(root, root) if name.lower().endswith(SUFFIX)]
        sample = EvenSample(len(names), limit)
        return len(sample), [
            TextFilesPiece(str(root), UNLABELED, tuple((names[sample.row(p)], NO_LABEL) for p in positions))
            for positions in sample.ranges(FILES_A_PIECE)
        ]
    # The format of labelled data says nothing of these.
    config = config.model_copy(update={"format": "auto"})
    tables, sizes, total = list[Table](), {}, 0
    for name, (path, kind) in list_tables(config).items():
        columns = find_columns(column_names(path, kind), config, str(path), with_labels=False)
        table = Table(path, name, kind, columns, UNLABELED, {UNLABELED: total})
        readable = rows = 0
        for _, _, reason in table.rows():
            rows += 1
            readable += not reason
        sizes[name], total = rows, total + readable
        tables.append(table)
    sample = EvenSample(total, limit)
    return len(sample), [*make_pieces(tables, sizes, {UNLABELED: sample}, None, UNLABELED)]


def unlabeled_texts_digest(config: DataConfig) -> str:
    """Computes the digest of the content of the texts."""
    if _is_folder_of_texts(Path(config.path)):
        return text_folder_digest(config)
    return tables_digest(config.model_copy(update={"format": "auto"}))


def _is_folder_of_texts(root: Path) -> bool:
    return root.is_dir() and not any(table_format(path) for path in root.rglob("*") if path.is_file())
