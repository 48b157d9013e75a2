# SPDX-License-Identifier: Apache-2.0
"""Sorts the tests, and schedules them on the workers of xdist.

Quick tests run first, then those marked `e2e` or `slow`, beginning with the longest files, so that the workers finish
at about the same time. A worker receives one file at a time, because fixtures are built once for each file. One worker
receives all files that use the finished run of tests/e2e/conftest.py.
"""

import itertools

import pytest
from xdist.scheduler import LoadScopeScheduling

# Files that use the same finished run.
OF_ONE_RUN = tuple(f"tests/e2e/test_{name}.py" for name in ("engines", "lineage", "run"))
# Files that take minutes, the longest first.
LONGEST = (
    *OF_ONE_RUN, "tests/kubeflow/test_cluster_run.py", "tests/kubeflow/test_versions_run.py",
    "tests/e2e/test_python.py", "tests/e2e/",
)  # fmt: skip


class FileByFile(LoadScopeScheduling):
    """Assigns the tests of one file, or of one finished run, together, in the order of collection."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False
        self._places: dict[str, str] = {}

    def _split_scope(self, nodeid: str) -> str:
        if not self._places:
            for number, (place, ids) in enumerate(itertools.groupby(self.collection or (), _place)):
                self._places |= dict.fromkeys(ids, f"{number} {place}")
        return self._places[nodeid]


def quick_first(item: pytest.Item) -> tuple[bool, int]:
    """Computes the key by which tests are sorted."""
    slow = any(item.get_closest_marker(name) for name in ("e2e", "slow"))
    rank = next((n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))
    return slow, rank if slow else 0


def _place(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return "the finished run" if file in OF_ONE_RUN else file
