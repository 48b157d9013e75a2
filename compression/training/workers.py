# SPDX-License-Identifier: Apache-2.0
"""Who trains together: the workers that TF_CONFIG names, and which of them this process is.

TF_CONFIG is TensorFlow's own variable, set by hand or by a cluster's training operator, differently for each process:

    {"cluster": {"worker": ["one.example:2222", "two.example:2222"]}, "task": {"type": "worker", "index": 0}}

The chief is the task `chief`, where the cluster has one, or else worker 0. It needs no TensorFlow to be read, so that a
mistake is told before TensorFlow starts.
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
    """The workers, and this process's place among them.

    Attributes:
        addresses: host:port of each worker, the chief first.
        index: Of this process, from 0.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.index == 0


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Reads TF_CONFIG.

    Raises:
        ConfigError: It is unset, no such JSON, names fewer than two workers, or a task that is not among them.
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
        raise ConfigError(f"TF_CONFIG must name workers alone, and a chief; got {', '.join(others)} as well. {_REMEDY}")
    addresses = (*chiefs, *workers)
    for address in addresses:
        host, colon, port = str(address).rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
            raise ConfigError(f"TF_CONFIG must name workers as HOST:PORT; got {address!r}. {_REMEDY}")
    if len(chiefs) > 1 or len(set(addresses)) < len(addresses):
        raise ConfigError(f"TF_CONFIG must name each worker once, and one chief at most; got {text}. {_REMEDY}")
    if len(addresses) < 2:
        raise ConfigError(f"TF_CONFIG must name at least two workers; got {len(addresses)}. {_REMEDY}")
    count = {"chief": len(chiefs), "worker": len(workers)}.get(kind, 0)
    if not 0 <= index < count:
        raise ConfigError(f"TF_CONFIG must have as its task one of the cluster; got {kind!r} {index}. {_REMEDY}")
    return Cluster(addresses, index + (len(chiefs) if kind == "worker" else 0))


def check_divisible(batch_size: int, replicas: int) -> None:
    """Refuses a batch of which each replica would not get an equal part.

    Raises:
        ConfigError: It names the next smaller size that can be divided: there may not be images for a larger one.
    """
    if batch_size % replicas:
        nearest = max(1, batch_size // replicas) * replicas
        raise ConfigError(
            f"a batch must be divisible by the {replicas} replicas that train together; got {batch_size} images. "
            f"Set distill.batch_size to {nearest}, or distill.strategy to none."
        )
