# SPDX-License-Identifier: Apache-2.0
"""The pruning passes, one a file, and the base classes for user-defined passes.

Public: `Pass`, `PassParameters`, `Work`, `Context`, `fine_tune`; for the Pruner, `choose_passes`, `pass_versions` and
`run_passes`.
"""

from learn2compress.compression.pruning.passes.base import Context, Pass, PassParameters, Work
from learn2compress.compression.pruning.passes.fine_tuning import fine_tune
from learn2compress.compression.pruning.passes.registry import choose_passes, pass_versions
from learn2compress.compression.pruning.passes.sequence import run_passes

__all__ = [
    "Context", "Pass", "PassParameters", "Work", "choose_passes", "fine_tune", "pass_versions", "run_passes",
]  # fmt: skip
