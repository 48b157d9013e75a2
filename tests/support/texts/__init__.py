# SPDX-License-Identifier: Apache-2.0
"""What the tests of texts share: a small job, teachers, students."""
