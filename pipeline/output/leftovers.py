# SPDX-License-Identifier: Apache-2.0
"""Removes what killed attempts left in an output folder, before the next one begins.

TFX gives each attempt at a node a folder of its own, and a killed process cannot remove it: without this, a copy of the
teacher would stay for each kill. Checkpoints lie elsewhere and are kept, since the next attempt goes on from them.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from learn2compress.schemas.files.whole import remove_asides
from learn2compress.schemas.provenance import FOLDER, SUFFIX

FINISHED = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)
"""States of an execution that ended well."""
_SYSTEM = ".system"  # TFX's own folder of a node


def remove_leftovers(store: MetadataStore, output: Path) -> list[Path]:
    """Remove the folders of executions that never finished, and files that were being written.

    A folder is removed only if the store knows its execution as unfinished and no record describes it. The caller holds
    the output folder, so no such execution can be at work.

    Args:
        store: ML Metadata store of the run.
        output: Output folder.

    Returns:
        What was removed.
    """
    unfinished = {str(one.id) for one in store.get_executions() if one.last_known_state not in FINISHED}
    removed = [folder for folder in _execution_folders(output / "pipeline") if folder.name in unfinished]
    for folder in removed:
        shutil.rmtree(folder, ignore_errors=True)
    return [*removed, *remove_asides(output)]


def _execution_folders(root: Path) -> Iterator[Path]:
    """List the folders <node>/<key>/<execution> and <node>/.system/<kind>/<execution> that no record describes."""
    for folder in [*root.glob("*/*/*"), *root.glob(f"*/{_SYSTEM}/*/*")]:
        recorded = root / folder.relative_to(root).parts[0] / FOLDER / f"{folder.name}{SUFFIX}"
        if folder.name.isdigit() and folder.is_dir() and not folder.is_symlink() and not recorded.exists():
            yield folder
