# SPDX-License-Identifier: Apache-2.0
"""The DAG as a Kubeflow Pipelines spec, its image, and the client side of a cluster run."""

__all__ = ["client", "compile", "doctor", "fetch", "lint", "records", "run_parameters", "submission", "watch"]
