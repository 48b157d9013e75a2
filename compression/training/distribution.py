# SPDX-License-Identifier: Apache-2.0
"""On how many devices, and in how many processes, a training runs (tf.distribute).

    none            one device: the ordinary TensorFlow of one process
    mirrored        all devices of this machine (its GPUs), in one process
    multi_worker    a process for each worker that TF_CONFIG names; gradients travel by gRPC or NCCL

Whatever the number of replicas, all see the same batch and each takes its own part of it, so that the loss, its
gradient and the statistics of batch normalization are those of the whole batch. What differs from one device is the
order in which floating-point numbers are added.

Processes of a multi-worker training run the same program, from the same seeds, on the same files. Only the chief
writes; what it reads that the others may not have (a checkpoint) it sends them, by the same channel as the gradients.
"""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from learn2compress.compression.training.workers import Cluster, read_cluster
from learn2compress.schemas.errors import ConfigError, TrainingError

# What TensorFlow raises when a worker is gone or has gone on without the others.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)


class Distribution:
    """One device: everything is as without it. The base of the others.

    Attributes:
        replicas: Copies of the model, each on its device.
        cluster: The processes that train together, or None for one alone.
    """

    replicas = 1
    cluster: Cluster | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes."""
        return self.cluster is None or self.cluster.is_chief

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Where models, optimizers and other variables must be made."""
        yield

    def compile(self, step: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """A step, for all replicas at once: see `part` and `sum`."""
        return tf.function(step, autograph=False, **options)

    def part(self, *batch: tf.Tensor) -> Sequence[tf.Tensor]:
        """In a step: of tensors [batch, ...], what this replica works on."""
        return batch

    def sum(self, value: tf.Tensor) -> tf.Tensor:
        """In a compiled step: a replica's value summed over all."""
        return value

    def synchronize(self, model: keras.Model) -> None:
        """Makes batch normalization count the whole batch."""

    def read(self, variable: tf.Variable) -> np.ndarray:
        """A variable's value, the same in all replicas."""
        return variable.numpy()

    def spread(self, model: keras.Model, build: Callable[[], keras.Model] | None = None) -> keras.Model:  # noqa: ARG002
        """An ordinary model as one to be trained in all replicas, with the chief's weights.

        Args:
            model: Made outside of `scope`.
            build: Makes another one of its kind; default: from its layers' configuration.
        """
        return model

    def gather(self, trained: keras.Model, model: keras.Model) -> None:
        """Puts what was learned in the ordinary model, which can be saved and converted.

        Args:
            trained: What `spread` made of the model.
            model: As it was given to `spread`.
        """

    def share(self, data: bytes | None) -> bytes:
        """Gives all processes what the chief has; the others' is not looked at."""
        return data or b""


class Replicated(Distribution):
    """Several replicas, by a tf.distribute strategy that keeps all variables equal in all of them."""

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None = None) -> None:
        self.strategy, self.cluster, self.replicas = strategy, cluster, strategy.num_replicas_in_sync
        self._add_up = tf.function(
            lambda data: strategy.run(self._add_up_replica, (data,)),
            autograph=False,
            input_signature=[tf.TensorSpec([None], tf.int32)],
        )

    @contextmanager
    def scope(self) -> Iterator[None]:
        def create(next_creator: Callable[..., tf.Variable], **options: Any) -> tf.Variable:
            # tfmot assigns to its ranges in a step, and pruning to kernels: always the same value in all replicas, but
            # TensorFlow wants to be told so.
            if options.get("aggregation") in (None, tf.VariableAggregation.NONE):
                options["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
            return next_creator(**options)

        with self.strategy.scope(), tf.variable_creator_scope(create):
            yield

    def compile(self, step: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def all_replicas(*arguments: Any) -> Any:
            return self.strategy.run(step, arguments)

        compiled = tf.function(all_replicas, autograph=False, **options)

        def call(*arguments: Any) -> Any:
            with self._team_complete():
                return tf.nest.map_structure(self._first, compiled(*arguments))

        vars(call)["experimental_get_tracing_count"] = compiled.experimental_get_tracing_count
        return call

    def part(self, *batch: tf.Tensor) -> Sequence[tf.Tensor]:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        size = tf.shape(batch[0])[0] // self.replicas
        return [tensor[replica * size : (replica + 1) * size] for tensor in batch]

    def sum(self, value: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)

    def synchronize(self, model: keras.Model) -> None:
        for layer in model.submodules:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized, layer.fused = True, False

    def read(self, variable: tf.Variable) -> np.ndarray:
        return self._first(variable).numpy()

    def spread(self, model: keras.Model, build: Callable[[], keras.Model] | None = None) -> keras.Model:
        with self.scope():
            spread = build() if build else keras.models.clone_model(model)
        # Equal seeds make equal weights on equal machines; this makes them equal on all.
        weights = io.BytesIO()
        np.savez(weights, *model.get_weights())
        with np.load(io.BytesIO(self.share(weights.getvalue()))) as chiefs:
            spread.set_weights([chiefs[name] for name in chiefs.files])
        return spread

    def gather(self, trained: keras.Model, model: keras.Model) -> None:
        model.set_weights([self.read(variable) for variable in trained.weights])

    def share(self, data: bytes | None) -> bytes:
        if self.cluster is None:
            return super().share(data)
        data = (data or b"") if self.is_chief else b""
        with self._team_complete():
            # Added up, where all but the chief give zeros.
            size = int(self._sum_over_workers(np.array([len(data)], np.int32))[0])
            if not size:
                return b""  # TensorFlow's all-reduce of nothing is a fault of memory
            content = np.zeros(size, np.int32)
            content[: len(data)] = np.frombuffer(data, np.uint8)
            return self._sum_over_workers(content).astype(np.uint8).tobytes()

    def _sum_over_workers(self, value: np.ndarray) -> np.ndarray:
        # Each of a worker's replicas gives the worker's value.
        return self._first(self._add_up(tf.constant(value))).numpy() // len(self.strategy.extended.worker_devices)

    def _add_up_replica(self, data: tf.Tensor) -> tf.Tensor:
        # A copy, made here, for TensorFlow asks where the tensor lies.
        return self.sum(tf.identity(data))

    def _first(self, value: Any) -> Any:
        return self.strategy.experimental_local_results(value)[0]

    @contextmanager
    def _team_complete(self) -> Iterator[None]:
        try:
            yield
        except _LOST as error:
            raise TrainingError(
                f"the {len(self.cluster.addresses) if self.cluster else self.replicas} workers must stay to the end; "
                f"one was lost: {error.message.splitlines()[0]}. Look at its log, and start all of them again: the "
                "training goes on from its last epoch."
            ) from error


_team: Replicated | None = None


def open_distribution(name: str) -> Distribution:
    """The strategy by its name in the configuration.

    A multi-worker one must be opened before anything else is done with TensorFlow, and is kept: a process belongs to
    one cluster for as long as it lives.

    Raises:
        ConfigError: There is but one device to mirror on, or TF_CONFIG names no cluster.
        TrainingError: The other workers do not answer, or TensorFlow was in use before.
    """
    if name == "none":
        return Distribution()
    if name == "mirrored":
        return _mirrored()
    global _team
    if _team is None:
        _team = _join(read_cluster())
    return _team


def _mirrored() -> Replicated:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise ConfigError(
            f"distill.strategy mirrored must have at least two devices; got {devices[0].name}. Set "
            "CUDA_VISIBLE_DEVICES to several accelerators, or distill.strategy to none."
        )
    return Replicated(tf.distribute.MirroredStrategy([device.name for device in devices]))


def _join(cluster: Cluster) -> Replicated:
    stop = signal.getsignal(signal.SIGTERM)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise TrainingError(
            f"a multi-worker training must be joined before anything else is done with TensorFlow; {error}. "
            "Start a new process."
        ) from error
    except tf.errors.OpError as error:
        raise TrainingError(
            f"worker {cluster.index} must reach the others of TF_CONFIG, {', '.join(cluster.addresses)}; "
            f"{error.message.splitlines()[0]}. Check the addresses, that each port is free, and that all were started."
        ) from error
    if threading.current_thread() is threading.main_thread():
        # TensorFlow now catches it, to tell the other workers of a preemption that nobody here asks about, and goes on.
        signal.signal(signal.SIGTERM, stop)
    return Replicated(strategy, cluster)
