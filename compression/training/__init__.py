# SPDX-License-Identifier: Apache-2.0
"""Joint training of all students: losses, steps, devices, what is trained on."""
