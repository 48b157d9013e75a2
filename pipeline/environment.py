# SPDX-License-Identifier: Apache-2.0
"""Sets the environment variables and log levels that TensorFlow requires before its first import."""

import logging
import os
import warnings


def prepare_environment() -> None:
    """Selects Keras 2, which tfmot requires, and suppresses the messages of libraries, also in child processes.

    An accelerator is used if the user has set CUDA_VISIBLE_DEVICES; otherwise it is hidden, since TensorFlow's search
    for one only prints warnings.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for category in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.simplefilter("ignore", category)
    logging.getLogger("absl").setLevel(logging.ERROR)
    # In a notebook TensorFlow resets the level of its logger when it is imported; a filter stays.
    logging.getLogger("tensorflow").addFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
