# SPDX-License-Identifier: Apache-2.0
"""The TFX nodes, one file each; none imports another."""
