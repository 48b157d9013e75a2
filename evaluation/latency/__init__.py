# SPDX-License-Identifier: Apache-2.0
"""Predicts the latency of a full-int8 file from its operations, which are measured once on a machine or a phone, and
measures files on a phone.
"""

__all__ = ["measuring", "measuring_on_phone", "model", "operations", "phone", "table"]
