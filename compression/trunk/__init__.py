# SPDX-License-Identifier: Apache-2.0
"""Students cut out of the teacher's own network: rebuilding it, its exits, their costs and probes, the family."""

__all__ = ["choice", "exits", "latency", "model", "narrowing", "plan", "probes", "spec"]
