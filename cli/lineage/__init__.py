# SPDX-License-Identifier: Apache-2.0
"""The commands of an audit: what made a file, what it led to, and whether all is as it was recorded."""
