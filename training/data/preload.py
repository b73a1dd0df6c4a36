"""Examples -> readable Examples, small sets decoded into memory."""

import sys

import keras
import numpy as np
import tensorflow as tf

from training.data.examples import Examples
from vit_keras.images.decoding import why_undecodable
from vit_keras.utils.errors import InputError


def decode_all(
    examples: Examples, cache_mib: int = 0, short_side: int | None = None
) -> tuple[Examples, dict[str, str]]:
    """Decodes every image once, to find the unreadable ones and to keep small sets in memory.

    Args:
        examples: Examples.
        cache_mib: MiB of decoded pixels that may be kept.
        short_side: pixels; images to keep are shrunk to it where their shorter side is longer.

    Returns:
        The readable Examples, from memory if they fit, and {name: reason} of the others.

    Raises:
        InputError: where no image can be read.
    """
    if examples.pixels is not None:
        return examples, {}
    dataset = tf.data.Dataset.range(len(examples))
    dataset = dataset.map(lambda i: (i, shrink(examples.read(i), short_side)), tf.data.AUTOTUNE)
    dataset = dataset.ignore_errors().prefetch(tf.data.AUTOTUNE)
    progress = keras.utils.Progbar(
        len(examples), unit_name="image", verbose=int(sys.stdout.isatty())
    )
    readable, images, free_bytes = [], [], cache_mib * 2**20
    for index, image in dataset.as_numpy_iterator():
        readable.append(index)
        free_bytes -= image.nbytes
        if free_bytes >= 0:
            images.append(image)
        progress.update(len(readable), finalize=False)
    progress.update(len(examples), finalize=True)
    unreadable = np.setdiff1d(np.arange(len(examples)), readable)
    reasons = {examples.names[index]: _reason(examples, index) for index in unreadable}
    if not readable:
        name, reason = next(iter(reasons.items()))
        raise InputError(f"none of {len(examples)} images can be read: {name}: {reason}, ...")
    examples = examples.subset(np.array(readable, "int64"))
    return (_in_memory(examples, images) if free_bytes >= 0 else examples), reasons


def shrink(image: tf.Tensor, short_side: int | None) -> tf.Tensor:
    """Shrinks an image until its shorter side is at most `short_side` pixels.

    Args:
        image: uint8 (height, width, channels).
        short_side: pixels; None keeps every size.

    Returns:
        uint8 (height, width, channels).
    """
    if short_side is None:
        return image
    size = tf.shape(image)[:2]
    scale = short_side / tf.reduce_min(size)

    def smaller():
        target = tf.cast(tf.round(tf.cast(size, tf.float64) * scale), tf.int32)
        resized = tf.image.resize(image, tf.maximum(target, 1), antialias=True)
        return tf.saturate_cast(tf.round(resized), tf.uint8)

    resized = tf.cond(scale < 1, smaller, lambda: image)
    return tf.ensure_shape(resized, (None, None, image.shape[-1]))


def _in_memory(examples, images):
    shapes = np.array([image.shape for image in images], "int64")
    if (shapes == shapes[0]).all():
        return Examples.from_pixels(
            np.stack(images), examples.labels, examples.class_names, examples.names
        )
    sizes = shapes.prod(axis=1)
    flat = tf.constant(np.concatenate([image.ravel() for image in images]))
    starts, sizes, shapes = map(tf.constant, (np.cumsum(sizes) - sizes, sizes, shapes))

    def read(index):
        pixels = tf.slice(flat, starts[index, tf.newaxis], sizes[index, tf.newaxis])
        image = tf.reshape(pixels, shapes[index])
        return tf.ensure_shape(image, (None, None, images[0].shape[-1]))

    return Examples(examples.labels, examples.class_names, examples.names, read)


def _reason(examples, index):
    try:
        examples.read(tf.constant(index))
    except tf.errors.OpError as error:
        return why_undecodable(error)
    return "readable at the second try"
