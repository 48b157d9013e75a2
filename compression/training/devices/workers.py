# SPDX-License-Identifier: Apache-2.0
"""Reads the workers that train together, and the index of this process among them, from TF_CONFIG.

TF_CONFIG is an environment variable of TensorFlow, set by the user or by a training operator, differently per process:

    {"cluster": {"worker": ["one.example:2222", "two.example:2222"]}, "task": {"type": "worker", "index": 0}}

The chief is the task `chief` if the cluster has one, and otherwise worker 0. This module does not import TensorFlow, so
mistakes are reported before TensorFlow is started.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from learn2compress.schemas.errors import ConfigError

_REMEDY = (
    'Set it in each process, as TF_CONFIG=\'{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": '
    '"worker", "index": 0}}\', or set distill.strategy to none.'
)


@dataclass(frozen=True)
class Cluster:
    """The workers, and the index of this process among them.

    Attributes:
        addresses: host:port of each worker, the chief first.
        index: Index of this process, from 0.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process is the chief, which writes all files."""
        return self.index == 0


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Read TF_CONFIG.

    Args:
        environment: Environment variables.

    Raises:
        ConfigError: TF_CONFIG is unset or malformed, names fewer than two workers, or a task that is not among them.
    """
    text = environment.get("TF_CONFIG", "")
    if not text.strip():
        raise ConfigError(f"TF_CONFIG must be set for distill.strategy multi_worker; it is not. {_REMEDY}")
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"TF_CONFIG must be JSON; got {text!r}: {error}. {_REMEDY}") from error
    try:
        cluster, task = tree["cluster"], tree["task"]
        kind, index = task["type"], int(task["index"])
        chiefs, workers = list(cluster.get("chief", [])), list(cluster.get("worker", []))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"TF_CONFIG must have cluster.worker, task.type and task.index; got {text}. {_REMEDY}") from (
            error
        )
    others = sorted(set(cluster) - {"chief", "worker"})
    if others:
        raise ConfigError(f"TF_CONFIG must name only workers and a chief; got {', '.join(others)} as well. {_REMEDY}")
    addresses = (*chiefs, *workers)
    for address in addresses:
        host, colon, port = str(address).rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
            raise ConfigError(f"TF_CONFIG must name workers as HOST:PORT; got {address!r}. {_REMEDY}")
    if len(chiefs) > 1 or len(set(addresses)) < len(addresses):
        raise ConfigError(f"TF_CONFIG must name each worker once, and at most one chief; got {text}. {_REMEDY}")
    if len(addresses) < 2:
        raise ConfigError(f"TF_CONFIG must name at least two workers; got {len(addresses)}. {_REMEDY}")
    count = {"chief": len(chiefs), "worker": len(workers)}.get(kind, 0)
    if not 0 <= index < count:
        raise ConfigError(f"TF_CONFIG must have a task of the cluster; got {kind!r} {index}. {_REMEDY}")
    return Cluster(addresses, index + (len(chiefs) if kind == "worker" else 0))


def check_divisible(batch_size: int, replicas: int) -> None:
    """Refuse a batch that cannot be divided equally among the replicas.

    Args:
        batch_size: Number of images in the batch.
        replicas: Number of replicas.

    Raises:
        ConfigError: The batch cannot be divided. The message gives the next smaller size that can, since there may not
            be enough images for a larger one.
    """
    if batch_size % replicas:
        nearest = max(1, batch_size // replicas) * replicas
        raise ConfigError(
            f"a batch must be divisible by the {replicas} replicas that train together; got {batch_size} images. "
            f"Set distill.batch_size to {nearest}, or distill.strategy to none."
        )
