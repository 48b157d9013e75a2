# SPDX-License-Identifier: Apache-2.0
"""Writes provenance records: of an execution, of an output folder, of the code that ran; signs and checks them."""

__all__ = ["mlmd_messages", "output_record", "provenance", "signing", "statement", "versions"]
