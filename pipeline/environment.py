# SPDX-License-Identifier: Apache-2.0
"""What must be set before TensorFlow is imported for the first time, in this process and in those it starts."""

import logging
import os
import warnings


def prepare_environment() -> None:
    """Chooses Keras 2, which tfmot needs, and silences what is no message of ours.

    An accelerator is used where the user has set CUDA_VISIBLE_DEVICES; without that, TensorFlow's search for one only
    makes noise.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for category in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.simplefilter("ignore", category)
    logging.getLogger("absl").setLevel(logging.ERROR)
