# SPDX-License-Identifier: Apache-2.0
"""Joint training of all students: losses, steps, devices, and training data."""

__all__ = [
    "accuracy",
    "devices",
    "feature_distillation",
    "history",
    "joint_teacher",
    "joint_trainer",
    "losses",
    "training_data",
]
