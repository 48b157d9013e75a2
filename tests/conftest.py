# SPDX-License-Identifier: Apache-2.0
"""What has to be so before any test imports TensorFlow: Keras 2 (for tfmot), no start-up noise, no GPU."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
