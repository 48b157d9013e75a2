# SPDX-License-Identifier: Apache-2.0
"""Estimates the time left of a whole run, where something is known of it.

A training is expected to take the epochs that are left, at the speed of the latest ones. If the output folder has the
records of an earlier run, each other node is expected to take as long as it took then, and the time left of the whole
run is known after the first epoch. Without them only the time of the training is.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LEAST_SECONDS = 30.0


class TimeLeft:
    """The time left of a run, from its events.

    Args:
        earlier: Seconds that each node took in an earlier run in the same folder, by name.
        epochs: Number of epochs that each training node will have, by name.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None, epochs: Mapping[str, int] | None = None) -> None:
        self._earlier = dict(earlier or {})
        self._epochs = dict(epochs or {})
        self._node = ""
        self._began = 0.0
        self._done: set[str] = set()
        self._ran = False
        self._epoch_seconds: float | None = None
        self._node_left: float | None = None

    def note_node(self, event: Any) -> None:
        """Take notice that a node has started or ended (a NodeEvent)."""
        if event.seconds is None:
            self._node, self._began, self._node_left = event.node, time.monotonic(), None
        else:
            self._done.add(event.node)
            self._ran = self._ran or not event.cached
            self._node, self._node_left = "", None

    def note_progress(self, progress: Any) -> None:
        """Take notice of the progress of a task (a schemas.progress.Progress)."""
        if not progress.task.endswith(": epoch") or progress.done <= progress.before:
            return
        self._epoch_seconds = progress.seconds / (progress.done - progress.before)
        self._node_left = progress.seconds_left

    def text(self) -> str:
        """Write the time left, such as `about 4 min left`; empty if it is not known, or not worth telling."""
        seconds, whole = self._whole_run(), True
        if seconds is None:
            seconds, whole = self._training(), False
        if seconds is None or seconds < _LEAST_SECONDS:
            return ""
        return f"about {minutes(seconds)} {'left' if whole else 'of training left'}"

    def _whole_run(self) -> float | None:
        """Add up the nodes that are left; None while one is unknown, or while all nodes came from the cache."""
        if not (self._earlier and self._ran) or (self._node and self._node not in self._earlier):
            return None
        left = 0.0
        for node, earlier in self._earlier.items():
            if node in self._done:
                continue
            expected = self._expected(node, earlier)
            if expected is None:
                return None
            left += expected
        return left

    def _expected(self, node: str, earlier: float) -> float | None:
        """Estimate a node that is left: a training by its epochs, whose number may have changed, others as before.

        Returns:
            Seconds; None for a training before the first epoch of this run.
        """
        spent = time.monotonic() - self._began if node == self._node else 0.0
        if node not in self._epochs:
            return max(0.0, earlier - spent)
        if node == self._node and self._node_left is not None:
            return self._node_left
        return None if self._epoch_seconds is None else max(0.0, self._epochs[node] * self._epoch_seconds - spent)

    def _training(self) -> float | None:
        """Add up the epochs that are left; None before the first one is done."""
        if self._epoch_seconds is None:
            return None
        coming = sum(count for node, count in self._epochs.items() if node not in self._done | {self._node})
        return (self._node_left or 0.0) + coming * self._epoch_seconds


def minutes(seconds: float) -> str:
    """Write a duration in seconds or minutes."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def planned_epochs(config: Any) -> dict[str, int]:
    """Count the epochs of each training node of a configuration (a schemas.config.Config), where they are known.

    Where steps are configured instead, the number of epochs depends on that of the images.
    """
    pruned = (config.prune.epochs if config.prune.sparsity else 0) + (
        config.prune.channel_epochs if config.prune.channels is not None else 0
    )
    known = {"Pruner": pruned if config.prune.passes else 0}
    for node, section in (("Distiller", config.distill), ("Quantizer", config.quantize)):
        if section.steps is None:
            known[node] = section.epochs
    return {node: known[node] for node in ("Distiller", "Pruner", "Quantizer") if node in known}


def earlier_durations(output: Path) -> dict[str, float]:
    """Read the seconds that each node took in the latest run in a folder, from its records; empty if there is none.

    Only nodes that ran count: one that was served from the cache tells nothing, and its latest execution is taken.
    """
    from datetime import datetime

    from learn2compress.lineage.graph import open_graph
    from learn2compress.schemas.errors import LineageError

    if not (output / "pipeline").is_dir():
        return {}
    try:
        entries = open_graph(output).index.entries()
    except LineageError:
        return {}
    found: dict[str, float] = {}
    for entry in sorted(entries, key=lambda entry: entry.finished or ""):
        if entry.started and entry.finished and not entry.cached and entry.node not in ("Output", "Pick"):
            times = (entry.started, entry.finished)
            began, ended = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in times)
            found[entry.node] = (ended - began).total_seconds()
    return found
