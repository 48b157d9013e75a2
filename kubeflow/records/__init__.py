# SPDX-License-Identifier: Apache-2.0
"""What a cluster's run left on record, brought into the form that a local run's records have."""

__all__ = ["cluster_records", "step_record"]
