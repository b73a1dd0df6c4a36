"""Several devices or machines by keras.distribution, under KERAS_BACKEND=jax."""

import contextlib

import jax
import keras
import tensorflow as tf
from jax.experimental import multihost_utils

from training.data.sampling import Share
from training.distribution.devices import LONGEST, Devices, cluster, listen
from vit_keras.utils.errors import InputError, first_line


class Mesh(Devices):
    """Devices of a keras.distribution; each process makes its part of a batch."""

    @property
    def parts(self):
        """Of a batch: all devices that do not share the parts of one model"""
        mesh = self.engine.device_mesh
        return mesh.shape[mesh.axis_names.index(self.engine.batch_dim_name)]

    def check(self, recipe):
        super().check(recipe)
        if recipe.pretrain != "none":
            raise InputError("--distribute under jax cannot be joined with pretrain.")
        if recipe.batch_size % self.parts:
            raise InputError(
                f"batch_size={recipe.batch_size} cannot be shared by {self.parts} devices."
            )

    @contextlib.contextmanager
    def scope(self):
        with super().scope():
            yield
        if self.workers:  # the first one has still to evaluate; the others need not wait for that
            jax.distributed.shutdown()

    def validation(self, batches, count):
        """Batches of the same size, filled up with images that count for nothing"""
        largest = batches.element_spec[0].shape[0] or int(next(iter(batches))[0].shape[0])
        size = -(-largest // self.parts) * self.parts
        total = size * -(-count // size)
        own = size // self.share.all

        def fill(images, labels):
            missing = size - tf.shape(images)[0]
            counts = tf.fill(tf.shape(images)[:1], total / count)
            filled = [
                tf.pad(part, [[0, missing]] + [[0, 0]] * (part.shape.rank - 1))
                for part in (images, labels, tf.cast(counts, tf.float32))
            ]
            begin = self.share.first * own
            return tuple(
                tf.ensure_shape(part[begin : begin + own], (own, *part.shape[1:]))
                for part in filled
            )

        filled = batches.rebatch(size).map(fill, tf.data.AUTOTUNE)
        known = tf.data.experimental.assert_cardinality(total // size)
        return filled.apply(known).prefetch(tf.data.AUTOTUNE)

    def gather(self, number):
        if not self.workers:
            return [number]
        return multihost_utils.process_allgather(number).tolist()


def _mirrored():
    return Mesh(keras.distribution.DataParallel(auto_shard_dataset=False))


def _multi_worker():
    addresses, index = cluster()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            addresses[0], len(addresses), index, shutdown_timeout_seconds=LONGEST
        )
        if index:  # the first worker's address is that of JAX's own service
            listen(addresses[index])
    except (RuntimeError, OSError) as error:
        raise InputError(f"--distribute multi-worker cannot start: {first_line(error)}") from error
    found = keras.distribution.DataParallel(auto_shard_dataset=False)
    return Mesh(found, Share(index, 1, len(addresses)), addresses, index)


def _model_parallel():
    """One model in parts, on all devices of this machine

    As in Megatron-LM (arXiv:1909.08053, section 3) of attention and of the MLP the first matrix is
    split by its columns, the second by its rows.
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
    "mirrored": _mirrored, "multi-worker": _multi_worker, "model-parallel": _model_parallel,
}  # fmt: skip
