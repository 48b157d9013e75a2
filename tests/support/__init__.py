# SPDX-License-Identifier: Apache-2.0
"""What tests of several rooms share; tests/conftest.py makes fixtures of it.

Imported before any test: Keras 2 (for tfmot), no start-up noise, no GPU must be settled before TensorFlow is imported.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
