# SPDX-License-Identifier: Apache-2.0
"""Small dictionaries, teachers and jobs of texts, and a program that runs MediaPipe."""
