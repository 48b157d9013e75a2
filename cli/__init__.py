# SPDX-License-Identifier: Apache-2.0
"""The command line `learn2compress`, with one file for each subcommand."""

__all__ = ["main"]
