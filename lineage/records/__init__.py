# SPDX-License-Identifier: Apache-2.0
"""Writing provenance records: of an execution, of an output folder, of the code that ran; their signatures."""
