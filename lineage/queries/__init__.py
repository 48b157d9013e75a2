# SPDX-License-Identifier: Apache-2.0
"""Questions to the records: what made a file, what it led to, what differs, is it intact."""
