# SPDX-License-Identifier: Apache-2.0
"""Holds the common code of tests in several packages; tests/conftest.py makes fixtures of it.

It is imported before any test, since Keras 2 (for tfmot), log level and GPU must be set before TensorFlow is imported.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
