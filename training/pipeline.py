"""Examples + recipe -> batches of normalised images and class probabilities."""

import sys

import keras
import numpy as np
import tensorflow as tf

from training.datasets import Examples
from vit_keras.decoding import why_undecodable
from vit_keras.errors import InputError

PARALLEL = tf.data.AUTOTUNE


def read_all(examples, cache_mib=0, short_side=None):
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
    dataset = dataset.map(lambda i: (i, shrink(examples.read(i), short_side)), PARALLEL)
    dataset = dataset.ignore_errors().prefetch(PARALLEL)
    progress = keras.utils.Progbar(
        len(examples), unit_name="image", verbose=int(sys.stdout.isatty())
    )
    readable, images, room = [], [], cache_mib * 2**20
    for index, image in dataset.as_numpy_iterator():
        readable.append(index)
        room -= image.nbytes
        if room >= 0:
            images.append(image)
        progress.update(len(readable), finalize=False)
    progress.update(len(examples), finalize=True)
    unreadable = np.setdiff1d(np.arange(len(examples)), readable)
    reasons = {examples.names[index]: _reason(examples, index) for index in unreadable}
    if not readable:
        name, reason = next(iter(reasons.items()))
        raise InputError(f"none of {len(examples)} images can be read: {name}: {reason}, ...")
    examples = examples.subset(np.array(readable, "int64"))
    return (_in_memory(examples, images) if room >= 0 else examples), reasons


def shrink(image, short_side):
    """uint8 (height, width, channels) -> the same, its shorter side at most `short_side` pixels.

    None keeps every size.
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


def training_batches(examples, recipe, preprocessing, steps):
    """The first `steps` batches of a run; each is a pure function of the seed and its number.

    Every image comes once an epoch, in an order which changes with the epoch.

    Returns:
        tf.data.Dataset of (float32 (batch_size, height, width, channels), normalised;
        float32 (batch_size, classes), rows that sum to one).
    """
    labels = tf.constant(examples.labels)

    def indices(position):
        """int64 positions in the stream of all epochs -> indices of examples"""
        count = len(examples)
        epoch = tf.cast(position // count, tf.int32)
        seeds = tf.stack([tf.fill(tf.shape(epoch), recipe.seed), epoch, epoch * 0], axis=-1)
        # tf.random.experimental.index_shuffle refuses one seed for each index.
        return tf.raw_ops.RandomIndexShuffle(
            index=position % count, seed=seeds, max_index=tf.constant(count - 1, tf.int64)
        )

    def gather(step):
        chosen = indices(step * recipe.batch_size + tf.range(recipe.batch_size, dtype=tf.int64))
        return tf.cast(tf.gather(pixels, chosen), tf.float32), tf.gather(labels, chosen)

    def read(position):
        index = indices(position)
        image = examples.read(index)
        if recipe.train_crop:
            seed = tf.stack([recipe.seed, tf.cast(position, tf.int32)])
            image = recipe.train_crop(image, preprocessing.image_size, seed)
            image.set_shape((*preprocessing.image_size, recipe.channels))
        else:
            image = preprocessing.to_size(image)
        return image, labels[index]

    def finish(step, batch):
        images, classes = batch
        classes = tf.one_hot(classes, len(examples.class_names))
        seed = tf.stack([recipe.seed, tf.cast(step, tf.int32)])
        for number, augment in enumerate(recipe.augment):
            folded = tf.random.experimental.stateless_fold_in(seed, number)
            images, classes = augment(images, classes, folded)
        return preprocessing.normalise(images), classes

    pixels = examples.pixels
    if pixels is not None and preprocessing.keeps(pixels.shape) and not recipe.train_crop:
        pixels = tf.constant(pixels)
        batches = tf.data.Dataset.range(steps).map(gather, PARALLEL)
    else:
        batches = tf.data.Dataset.range(steps * recipe.batch_size).map(read, PARALLEL)
        batches = batches.batch(recipe.batch_size, drop_remainder=True)
    batches = tf.data.Dataset.zip((tf.data.Dataset.range(steps), batches))
    return batches.map(finish, PARALLEL).prefetch(PARALLEL)


def evaluation_batches(examples, preprocessing, batch_size, cache_mib=0):
    """Every example once, in order, as `predict` and an exported model see it.

    Args:
        cache_mib: MiB of memory for the finished images, to be used again by the next pass.

    Returns:
        tf.data.Dataset like `training_batches`' with a smaller last batch.
    """
    labels = tf.one_hot(examples.labels, len(examples.class_names))

    def read(index):
        return preprocessing(examples.read(index)), labels[index]

    dataset = tf.data.Dataset.range(len(examples)).map(read, PARALLEL)
    height, width = preprocessing.image_size
    if len(examples) * height * width * preprocessing.channels * 4 <= cache_mib * 2**20:
        dataset = dataset.cache()
    return dataset.batch(batch_size).prefetch(PARALLEL)


def even_batch_size(count, largest):
    """A batch size of at most `largest` that divides `count`, if one above half of it does.

    A last batch of another shape would be compiled anew.
    """
    divisors = (size for size in range(largest, largest // 2, -1) if count % size == 0)
    return min(count, next(divisors, largest))


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
