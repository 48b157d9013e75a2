# SPDX-License-Identifier: Apache-2.0
"""Provenance records and the graph they form; their index. What reads, writes and asks them is in the rooms below."""
