"""Several devices or machines with keras.distribution, under KERAS_BACKEND=jax."""

import contextlib
import math
from collections.abc import Iterator

import jax
import keras
import tensorflow as tf
from jax.experimental import multihost_utils

from training.data.sampling import Share
from training.distribution.devices import LOST_AFTER_SECONDS, Devices, cluster, listen
from training.recipe import Recipe
from training.tasks import TASKS
from vit_keras.utils.errors import InputError, first_line


class Mesh(Devices):
    """Devices of a keras.distribution; each process makes its part of a batch."""

    @property
    def parts(self) -> int:
        """The number of parts of a batch; devices with parts of one model compute the same."""
        mesh = self.engine.device_mesh
        return mesh.shape[mesh.axis_names.index(self.engine.batch_dim_name)]

    def check(self, recipe: Recipe) -> None:
        super().check(recipe)
        if not TASKS[recipe.task].weighted_validation:
            raise InputError(f"--distribute with jax cannot be combined with task={recipe.task}.")
        batch_size = recipe.optimization.batch_size
        if batch_size % self.parts:
            raise InputError(f"batch_size={batch_size} cannot be shared by {self.parts} devices.")

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        with super().scope():
            yield
        if self.workers:  # the others need not wait while the first worker evaluates
            jax.distributed.shutdown()

    def validation(self, batches: tf.data.Dataset, count: int) -> tf.data.Dataset:
        """Returns this process's part of the validation batches, all of one size.

        Batches are padded with images of weight 0.

        Args:
            batches: of (images, labels).
            count: images in all batches.
        """
        largest = batches.element_spec[0].shape[0] or int(next(iter(batches))[0].shape[0])
        size = math.ceil(largest / self.parts) * self.parts
        total = size * math.ceil(count / size)
        own = size // self.share.all

        def fill(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
            missing = size - tf.shape(images)[0]
            weights = tf.fill(tf.shape(images)[:1], total / count)
            padded = [
                tf.pad(part, [[0, missing]] + [[0, 0]] * (part.shape.rank - 1))
                for part in (images, labels, tf.cast(weights, tf.float32))
            ]
            begin = self.share.first * own
            return tuple(
                tf.ensure_shape(part[begin : begin + own], (own, *part.shape[1:]))
                for part in padded
            )

        filled = batches.rebatch(size).map(fill, tf.data.AUTOTUNE)
        known = tf.data.experimental.assert_cardinality(total // size)
        return filled.apply(known).prefetch(tf.data.AUTOTUNE)

    def gather(self, number: int) -> list[int]:
        if not self.workers:
            return [number]
        return multihost_utils.process_allgather(number).tolist()


def _mirrored() -> Mesh:
    return Mesh(keras.distribution.DataParallel(auto_shard_dataset=False))


def _multi_worker() -> Mesh:
    addresses, index = cluster()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            addresses[0], len(addresses), index, shutdown_timeout_seconds=LOST_AFTER_SECONDS
        )
        if index:  # JAX's own service listens at the first worker's address
            listen(addresses[index])
    except (RuntimeError, OSError) as error:
        raise InputError(f"--distribute multi-worker cannot start: {first_line(error)}") from error
    engine = keras.distribution.DataParallel(auto_shard_dataset=False)
    return Mesh(engine, Share(first=index, own=1, all=len(addresses)), addresses, index)


def _model_parallel() -> Mesh:
    """Splits one model over all devices of this machine, as Megatron-LM does.

    The first matrix of attention and of the MLP is split by columns, the second by rows
    (arXiv:1909.08053, section 3).
    """
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh((1, len(devices)), ("batch", "model"), devices)
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[r".*(attention/qkv|mlp/expand)/kernel"] = (None, "model")
    layouts[r".*(attention/qkv|mlp/expand)/bias"] = ("model",)
    layouts[r".*(attention/projection|mlp/reduce)/kernel"] = ("model", None)
    return Mesh(
        keras.distribution.ModelParallel(
            layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
        )
    )


DEVICES = {
    "mirrored": _mirrored,
    "multi-worker": _multi_worker,
    "model-parallel": _model_parallel,
}
