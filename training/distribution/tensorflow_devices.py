"""Several devices or machines with tf.distribute."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from training.data.sampling import Share
from training.distribution.devices import Devices, cluster
from training.recipe import Recipe
from vit_keras.utils.errors import InputError, first_line

KERAS = "3.15"  # version of Keras with which the repairs of `fit` below are tested


class Replicas(Devices):
    """Devices with a copy of the weights each, under a tf.distribute.Strategy."""

    def check(self, recipe: Recipe) -> None:
        super().check(recipe)
        accumulates = recipe.optimization.gradient_accumulation_steps > 1
        if accumulates or recipe.execution.mixed_precision == "mixed_float16":
            raise InputError(
                "--distribute cannot be combined with gradient_accumulation_steps or "
                "mixed_precision=mixed_float16; mixed_bfloat16 works, and several devices take "
                "larger batches."
            )

    def adapted(self, recipe: Recipe) -> Recipe:
        # Neither works under a strategy.
        return recipe.replace(jit_compile=False, steps_per_execution=1)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        repairs = _repaired_fit() if self.workers else contextlib.nullcontext()
        with repairs, super().scope():
            yield

    def training(self, make_batches: Callable[[Share], tf.data.Dataset]) -> Any:
        return self.engine.distribute_datasets_from_function(lambda _: make_batches(self.share))

    def gather(self, number: int) -> list[int]:
        if not self.workers:
            return [number]
        return self.engine.gather(tf.constant([number]), axis=0).numpy().tolist()


@functools.cache  # a second strategy would reuse the collective operations of the first
def _mirrored() -> Replicas:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    return Replicas(strategy, Share(first=0, own=len(devices), all=len(devices)))


def _multi_worker() -> Replicas:
    if not keras.__version__.startswith(f"{KERAS}."):
        raise InputError(
            f"--distribute multi-worker repairs two defects of Keras {KERAS}'s fit. This is keras "
            f"{keras.__version__}; pip install 'keras=={KERAS}.*'."
        )
    addresses, index = cluster()
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, tf.errors.OpError) as error:
        raise InputError(f"--distribute multi-worker cannot start: {first_line(error)}") from error
    replicas = strategy.num_replicas_in_sync
    own = replicas // len(addresses)
    share = Share(first=index * own, own=own, all=replicas)
    return Replicas(strategy, share, addresses, index)


DEVICES = {"mirrored": _mirrored, "multi-worker": _multi_worker}


@contextlib.contextmanager
def _repaired_fit() -> Iterator[None]:
    """Replaces two functions of Keras's `fit` that fail under a MultiWorkerMirroredStrategy.

    Both are in keras/src/backend/tensorflow/trainer.py. `_maybe_symbolic_build` reduces the
    batches of several replicas, which tf.distribute refuses. `reduce_per_replica` takes the mean
    of scalars along their first axis, which they do not have.
    """
    from keras.src.backend.tensorflow import trainer

    reduce, build = trainer.reduce_per_replica, trainer.TensorFlowTrainer._maybe_symbolic_build

    def reduce_per_replica(values: Any, strategy: tf.distribute.Strategy, reduction: str) -> Any:
        if reduction != "auto":
            return reduce(values, strategy, reduction)
        return keras.tree.map_structure(
            lambda value: strategy.reduce("MEAN", value, axis=None), values
        )

    def _maybe_symbolic_build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        strategy = self.distribute_strategy
        if iterator is not None:
            _, _, steps = next(iter(iterator))
            data_batch = keras.tree.map_structure(
                lambda value: strategy.experimental_local_results(value)[0], next(steps)
            )
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    trainer.reduce_per_replica = reduce_per_replica
    trainer.TensorFlowTrainer._maybe_symbolic_build = _maybe_symbolic_build
    try:
        yield
    finally:
        trainer.reduce_per_replica = reduce
        trainer.TensorFlowTrainer._maybe_symbolic_build = build
