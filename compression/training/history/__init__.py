# SPDX-License-Identifier: Apache-2.0
"""The history of a training: curves of losses and accuracies, and event files for TensorBoard."""

__all__ = ["curves", "event_files"]
