# SPDX-License-Identifier: Apache-2.0
"""Object stores that tests talk to, on this machine."""
