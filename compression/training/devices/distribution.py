# SPDX-License-Identifier: Apache-2.0
"""Distributes a training over devices and processes (tf.distribute).

    none            one device, in one process without tf.distribute
    mirrored        all devices of this machine (its GPUs), in one process
    multi_worker    one process for each worker in TF_CONFIG; gradients are reduced by gRPC or NCCL

All replicas receive the same batch and each processes its own part of it, so that the loss, its gradient and the
statistics of batch normalization are those of the whole batch. The only difference from one device is the order of
floating-point additions.

The processes of a multi-worker training run the same program, with the same seeds, on the same files. Only the chief
writes files. A checkpoint, which the other workers may not have, is broadcast over the channel of the gradients.
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

from learn2compress.compression.training.devices.precision import computes_in_bfloat16, copy_in_bfloat16
from learn2compress.compression.training.devices.workers import Cluster, read_cluster
from learn2compress.schemas.errors import ConfigError, TrainingError

# Exceptions of TensorFlow if a worker has ended, or continues without the others.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)


class Distribution:
    """Training on one device, without tf.distribute; the base class of the others.

    Attributes:
        replicas: Number of copies of the model, each on its own device.
        cluster: The processes that train together, or None for a single process.
        in_bfloat16: Whether models that `replicate` copies compute in bfloat16, see precision.py.
    """

    replicas = 1
    cluster: Cluster | None = None
    in_bfloat16 = False

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files."""
        return self.cluster is None or self.cluster.is_chief

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Enter the scope in which models, optimizers and other variables must be created."""
        yield

    def compile(self, step: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """Compile a step that runs in all replicas, see `part` and `sum`; options are those of tf.function."""
        return tf.function(step, autograph=False, **options)

    def part(self, *batch: tf.Tensor) -> Sequence[tf.Tensor]:
        """Return this replica's part of tensors [batch, ...]; to be called within a step."""
        return batch

    def sum(self, value: tf.Tensor) -> tf.Tensor:
        """Sum a value over all replicas; to be called within a compiled step."""
        return value

    def synchronize(self, model: keras.Model) -> None:
        """Make batch normalization use the statistics of the whole batch."""

    def read(self, variable: tf.Variable) -> np.ndarray:
        """Return the value of a variable that is equal in all replicas."""
        return variable.numpy()

    def replicate(self, model: keras.Model, build: Callable[[], keras.Model] | None = None) -> keras.Model:
        """Copy a model to all replicas for training, with the weights of the chief.

        Args:
            model: Model that was built outside of `scope`.
            build: Function that builds another model of the same structure; by default `clone_model` is used.

        Returns:
            A replicated model; with a single device, the model itself, or a copy that computes in bfloat16. A model
            with a function that builds it computes in float32.
        """
        return copy_in_bfloat16(model) if self.in_bfloat16 and build is None else model

    def gather(self, trained: keras.Model, model: keras.Model) -> None:
        """Copy the trained weights back to the original model, which can be saved and converted.

        Args:
            trained: The replicated model that `replicate` returned.
            model: The original model that was passed to `replicate`.
        """
        if self.in_bfloat16:
            model.set_weights(trained.get_weights())

    def broadcast(self, data: bytes | None) -> bytes:
        """Broadcast data from the chief to all processes; the argument of the other processes is ignored."""
        return data or b""


class Replicated(Distribution):
    """Training in several replicas, by a tf.distribute strategy that keeps all variables equal in all replicas."""

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None = None) -> None:
        self.strategy, self.cluster, self.replicas = strategy, cluster, strategy.num_replicas_in_sync
        self._sum_over_replicas = tf.function(
            lambda data: strategy.run(self._sum_in_replica, (data,)),
            autograph=False,
            input_signature=[tf.TensorSpec([None], tf.int32)],
        )

    @contextmanager
    def scope(self) -> Iterator[None]:
        def create(next_creator: Callable[..., tf.Variable], **options: Any) -> tf.Variable:
            # tfmot assigns to its ranges in a step, and pruning to kernels. The values are equal in all replicas, but
            # TensorFlow requires this to be declared.
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
            with self._lost_workers_reported():
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

    def replicate(self, model: keras.Model, build: Callable[[], keras.Model] | None = None) -> keras.Model:
        with self.scope():
            clone = copy_in_bfloat16 if self.in_bfloat16 else keras.models.clone_model
            replicated = build() if build else clone(model)
        # Equal seeds give equal weights only on equal machines; the broadcast makes them equal on all.
        weights = io.BytesIO()
        np.savez(weights, *model.get_weights())
        with np.load(io.BytesIO(self.broadcast(weights.getvalue()))) as chiefs:
            replicated.set_weights([chiefs[name] for name in chiefs.files])
        return replicated

    def gather(self, trained: keras.Model, model: keras.Model) -> None:
        model.set_weights([self.read(variable) for variable in trained.weights])

    def broadcast(self, data: bytes | None) -> bytes:
        if self.cluster is None:
            return super().broadcast(data)
        data = (data or b"") if self.is_chief else b""
        with self._lost_workers_reported():
            # A sum over all workers, to which all but the chief contribute zeros.
            size = int(self._sum_over_workers(np.array([len(data)], np.int32))[0])
            if not size:
                return b""  # TensorFlow's all-reduce of an empty tensor causes a memory fault
            content = np.zeros(size, np.int32)
            content[: len(data)] = np.frombuffer(data, np.uint8)
            return self._sum_over_workers(content).astype(np.uint8).tobytes()

    def _sum_over_workers(self, value: np.ndarray) -> np.ndarray:
        # Each replica of a worker contributes the value of the worker.
        return self._first(self._sum_over_replicas(tf.constant(value))).numpy() // len(
            self.strategy.extended.worker_devices
        )

    def _sum_in_replica(self, data: tf.Tensor) -> tf.Tensor:
        # A copy within the replica, since the all-reduce depends on the device of the tensor.
        return self.sum(tf.identity(data))

    def _first(self, value: Any) -> Any:
        return self.strategy.experimental_local_results(value)[0]

    @contextmanager
    def _lost_workers_reported(self) -> Iterator[None]:
        """Raise a TrainingError if a worker is lost."""
        try:
            yield
        except _LOST as error:
            raise TrainingError(
                f"the {len(self.cluster.addresses) if self.cluster else self.replicas} workers must run to the end; "
                f"one was lost: {error.message.splitlines()[0]}. Look at its log, and start all of them again: the "
                "training resumes from its last epoch."
            ) from error


_joined: Replicated | None = None


def open_distribution(name: str, precision: str = "float32") -> Distribution:
    """Open the strategy with the given name.

    A multi-worker strategy must be opened before anything else is done with TensorFlow. It is kept, since a process
    cannot change to another cluster.

    Args:
        name: Value of `distill.strategy`: none, mirrored or multi_worker.
        precision: Value of `distill.precision`: float32, bfloat16 or auto.

    Raises:
        ConfigError: There is only one device for mirroring, or TF_CONFIG does not describe a cluster.
        TrainingError: The other workers cannot be reached, or TensorFlow was used before.
    """
    distribution = _open(name)
    distribution.in_bfloat16 = computes_in_bfloat16(precision)
    return distribution


def _open(name: str) -> Distribution:
    if name == "none":
        return Distribution()
    if name == "mirrored":
        return _mirrored()
    global _joined
    if _joined is None:
        _joined = _join(read_cluster())
    return _joined


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
        # TensorFlow handles the signal to announce a preemption to the other workers, which is not used here, and
        # continues. The previous handler is restored.
        signal.signal(signal.SIGTERM, stop)
    return Replicated(strategy, cluster)
