# SPDX-License-Identifier: Apache-2.0
"""Records of a run on a cluster, in the form of the records of a local run."""

__all__ = ["cluster_records", "step_record"]
