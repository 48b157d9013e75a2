# SPDX-License-Identifier: Apache-2.0
"""What travels between the layers: configuration, artifact types, manifests, reports, errors."""

__all__ = [
    "artifacts",
    "config",
    "digests",
    "errors",
    "files",
    "lineage",
    "manifests",
    "module_source",
    "parameters",
    "progress",
    "provenance",
    "records",
    "reports",
    "scaling",
    "units",
]
