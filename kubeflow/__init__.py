# SPDX-License-Identifier: Apache-2.0
"""The DAG as a Kubeflow Pipelines spec, its image, and the client side of a cluster run."""

__all__ = ["checks", "client", "fetch", "records", "runs", "schedule", "spec", "submission"]
