# SPDX-License-Identifier: Apache-2.0
"""The same lineage in ML Metadata: its stores, the comparison with the records, and rebuilding it from them."""
