"""Position in the stream of training images -> index of an example: order, balance, replicas."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Share(NamedTuple):
    """Which replicas of a run a process has: those from `first` on, `own` of `all` of them."""

    first: int = 0
    own: int = 1
    all: int = 1


ALONE = Share()


def block_size(batch_size):
    """Images that are augmented together: a quarter of a batch, within 8..32, that divides it.

    Whole batches where no such number does. Replicas share a batch by whole blocks, so that it is
    the same however many there are.
    """
    most = min(32, max(8, batch_size // 4))
    return next((size for size in range(most, 7, -1) if batch_size % size == 0), batch_size)


def balanced_weights(examples):
    """How much an image of each class counts so that all classes count alike, 1 on average."""
    counts = np.bincount(examples.labels, minlength=len(examples.class_names))
    return len(examples) / (len(counts) * np.maximum(counts, 1))


def shuffled(position, count, seed, stream=0):
    """int64 positions in the stream of all epochs -> indices below count, each once an epoch"""
    position, count, stream = (tf.cast(number, tf.int64) for number in (position, count, stream))
    epoch = tf.cast(position // count, tf.int32)
    streams = tf.broadcast_to(tf.cast(stream, tf.int32), tf.shape(epoch))
    seeds = tf.stack([tf.fill(tf.shape(epoch), seed), epoch, streams], axis=-1)
    # tf.random.experimental.index_shuffle refuses one seed for each index. With 4 rounds, the
    # default, and seed 0, half of 100 images would stay where they are.
    return tf.raw_ops.RandomIndexShuffle(
        index=position % count, seed=seeds, max_index=count - 1, rounds=16
    )


def by_class(examples):
    """A function like `shuffled` that gives every class in turn, in an order that changes"""
    counts = np.bincount(examples.labels, minlength=len(examples.class_names))
    classes = tf.constant(np.flatnonzero(counts))
    members = tf.constant(np.argsort(examples.labels, kind="stable"))
    counts, starts = tf.constant(counts), tf.constant(np.cumsum(counts) - counts)

    def order(position, count, seed):
        turn = position // len(classes)
        label = tf.gather(classes, shuffled(position, len(classes), seed, stream=1))
        size = tf.gather(counts, label)
        return tf.gather(
            members, tf.gather(starts, label) + shuffled(turn, size, seed, stream=2 + label)
        )

    return order
