# SPDX-License-Identifier: Apache-2.0
"""Compresses a TensorFlow classifier into a family of small TensorFlow Lite models.

    import learn2compress as l2c

    result = l2c.compress("model.keras", "images/", max_size="200KB", output="out")
    result.models      # a table of all candidates
    result.best.path   # the chosen file

Each command of the command line has a function here. They are imported on first use, so that importing this package
imports neither TensorFlow nor tfx.

The artifact types are attributes of this package as well, such as `learn2compress.StudentSet`, because Kubeflow imports
an artifact type by its type name.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learn2compress.api.auditing import (
        bill_of_materials,
        diff,
        history,
        impact,
        rebuild_metadata,
        sign,
        trace,
        verify,
    )
    from learn2compress.api.clusters import (
        cancel,
        compile_pipeline,
        connect,
        doctor,
        fetch,
        lint_pipeline,
        status,
        submit,
    )
    from learn2compress.api.configuring import init, plan
    from learn2compress.api.measuring import Benchmark, Measurements, bench, evaluate, inspect
    from learn2compress.api.replaying import replay
    from learn2compress.api.results import (
        Alternative,
        AlternativeTable,
        Model,
        ModelTable,
        ReportPage,
        Result,
        compare,
        open_result,
        pick,
        what_if,
    )
    from learn2compress.api.running import compress, run, take_part
    from learn2compress.schemas.errors import Learn2CompressError

__version__ = "0.1.0"

ARTIFACT_TYPES = (
    "Teacher", "TeacherLogits", "TrainedTeacher", "StudentSet", "OnDeviceModelSet", "ModelEvaluation", "Selection",
)  # fmt: skip

__all__ = [
    "Alternative", "AlternativeTable", "Benchmark", "Learn2CompressError", "Measurements", "Model",
    "ModelTable", "ReportPage", "Result", "bench", "bill_of_materials", "cancel", "compare",
    "compile_pipeline", "compress", "connect", "diff", "doctor", "evaluate", "fetch", "history", "impact",
    "init", "inspect", "lint_pipeline", "open_result", "pick", "plan", "rebuild_metadata", "replay", "run",
    "sign", "status", "submit", "take_part", "trace", "verify", "what_if",
]  # fmt: skip

_HOMES = {
    "api.auditing": (
        "bill_of_materials", "diff", "history", "impact", "rebuild_metadata", "sign", "trace", "verify",
    ),
    "api.clusters": (
        "cancel", "compile_pipeline", "connect", "doctor", "fetch", "lint_pipeline", "status", "submit",
    ),
    "api.configuring": ("init", "plan"),
    "api.measuring": ("Benchmark", "Measurements", "bench", "evaluate", "inspect"),
    "api.replaying": ("replay",),
    "api.results": (
        "Alternative", "AlternativeTable", "Model", "ModelTable", "ReportPage", "Result", "compare", "open_result",
        "pick", "what_if",
    ),
    "api.running": ("compress", "run", "take_part"),
    "schemas.artifacts": ARTIFACT_TYPES,
    "schemas.errors": ("Learn2CompressError",),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *ARTIFACT_TYPES})
