"""Several devices or machines by tf.distribute."""

import contextlib
import dataclasses
import functools

import keras
import tensorflow as tf

from training.data.sampling import Share
from training.distribution.devices import Devices, cluster
from vit_keras.utils.errors import InputError, first_line

KERAS = "3.15"  # whose `fit` the repairs below were tested with


class Replicas(Devices):
    """Devices that hold the same weights each, under a tf.distribute.Strategy."""

    def check(self, recipe):
        super().check(recipe)
        if recipe.accumulate > 1 or recipe.mixed_precision == "mixed_float16":
            raise InputError(
                "--distribute cannot be joined with accumulate or mixed_precision=mixed_float16; "
                "mixed_bfloat16 works, and several devices take larger batches."
            )

    def adapted(self, recipe):
        return dataclasses.replace(recipe, jit=False, steps_per_execution=1)  # neither works

    @contextlib.contextmanager
    def scope(self):
        with _repaired_fit() if self.workers else contextlib.nullcontext(), super().scope():
            yield

    def training(self, make_batches):
        return self.engine.distribute_datasets_from_function(lambda _: make_batches(self.share))

    def gather(self, number):
        if not self.workers:
            return [number]
        return self.engine.gather(tf.constant([number]), axis=0).numpy().tolist()


@functools.cache  # a second one would take up what the first had agreed on with its devices
def _mirrored():
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in found])
    return Replicas(strategy, Share(0, len(found), len(found)))


def _multi_worker():
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
    return Replicas(strategy, Share(index * own, own, replicas), addresses, index)


DEVICES = {"mirrored": _mirrored, "multi-worker": _multi_worker}


@contextlib.contextmanager
def _repaired_fit():
    """Replaces what fails in Keras's `fit` under a MultiWorkerMirroredStrategy.

    Both are in keras/src/backend/tensorflow/trainer.py: `_maybe_symbolic_build` reduces batches
    of several replicas, which tf.distribute refuses, and `reduce_per_replica` takes the mean of
    scalars along their first axis.
    """
    from keras.src.backend.tensorflow import trainer

    reduce, build = trainer.reduce_per_replica, trainer.TensorFlowTrainer._maybe_symbolic_build

    def reduce_per_replica(values, strategy, reduction):
        if reduction != "auto":
            return reduce(values, strategy, reduction)
        return keras.tree.map_structure(
            lambda value: strategy.reduce("MEAN", value, axis=None), values
        )

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
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
