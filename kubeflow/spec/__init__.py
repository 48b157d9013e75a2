# SPDX-License-Identifier: Apache-2.0
"""The DAG as a Kubeflow Pipelines spec: compiled, checked, and the parameters that a run may change."""

__all__ = ["compile", "engine", "lint", "run_parameters"]
