"""Position in the stream of training images -> index of an example: order, balance, replicas."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from training.data.examples import Examples


class Share(NamedTuple):
    """The replicas of a run that one process has: first, ..., first + own - 1 of `all`."""

    first: int = 0
    own: int = 1
    all: int = 1


ALONE = Share()


def block_size(batch_size: int) -> int:
    """Returns how many images are augmented together, a block.

    It is a quarter of a batch, within 8..32, or the next smaller size down to 8 that divides the
    batch; the whole batch if none does. Replicas share a batch by whole blocks, so that the batch
    is the same for any number of replicas.

    Args:
        batch_size: images.
    """
    largest = min(32, max(8, batch_size // 4))
    sizes = (size for size in range(largest, 7, -1) if batch_size % size == 0)
    return next(sizes, batch_size)


def balanced_weights(examples: Examples) -> np.ndarray:
    """Returns a weight for each class, so that all classes have the same total weight.

    Returns:
        float (classes,); the mean over the examples is 1.
    """
    counts = np.bincount(examples.labels, minlength=len(examples.class_names))
    return len(examples) / (len(counts) * np.maximum(counts, 1))


def shuffled(
    position: tf.Tensor, count: int | tf.Tensor, seed: int, stream: int | tf.Tensor = 0
) -> tf.Tensor:
    """Shuffles each epoch in another order, without a buffer.

    Args:
        position: int64, any shape: positions in the stream of all epochs.
        count: images in an epoch.
        seed: of the run.
        stream: number of an independent order with the same seed.

    Returns:
        int64 indices below count, in the shape of position. Each occurs once an epoch.
    """
    position, count, stream = (tf.cast(number, tf.int64) for number in (position, count, stream))
    epoch = tf.cast(position // count, tf.int32)
    streams = tf.broadcast_to(tf.cast(stream, tf.int32), tf.shape(epoch))
    seeds = tf.stack([tf.fill(tf.shape(epoch), seed), epoch, streams], axis=-1)
    # tf.random.experimental.index_shuffle refuses one seed for each index. With 4 rounds, the
    # default, and seed 0, half of 100 images would stay where they are.
    return tf.raw_ops.RandomIndexShuffle(
        index=position % count, seed=seeds, max_index=count - 1, rounds=16
    )


def by_class(examples: Examples) -> Callable[..., tf.Tensor]:
    """Returns an order like `shuffled` in which every class occurs equally often.

    Each round has one image of every class, in an order that changes. Every image of a class
    occurs once before any occurs again.

    Returns:
        function(position, count, seed) -> indices of the examples; count is unused.
    """
    counts = np.bincount(examples.labels, minlength=len(examples.class_names))
    classes = tf.constant(np.flatnonzero(counts))
    members = tf.constant(np.argsort(examples.labels, kind="stable"))
    sizes, starts = tf.constant(counts), tf.constant(np.cumsum(counts) - counts)

    def order(position: tf.Tensor, count: int, seed: int) -> tf.Tensor:
        turn = position // len(classes)
        label = tf.gather(classes, shuffled(position, len(classes), seed, stream=1))
        size = tf.gather(sizes, label)
        member = tf.gather(starts, label) + shuffled(turn, size, seed, stream=2 + label)
        return tf.gather(members, member)

    return order
