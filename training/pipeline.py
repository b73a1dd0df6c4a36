"""Examples + recipe -> batches of normalised images and class probabilities."""

import sys

import keras
import numpy as np
import tensorflow as tf

from training.datasets import Examples

PARALLEL = tf.data.AUTOTUNE


def read_all(examples, cache_mib):
    """Decodes every image once, to find the unreadable ones and to keep small sets in memory.

    Args:
        examples: Examples.
        cache_mib: MiB of decoded pixels that may be kept.

    Returns:
        The readable Examples, from memory if they fit, and {name: reason} of the others.
    """
    if examples.pixels is not None:
        return examples, {}
    dataset = tf.data.Dataset.range(len(examples))
    dataset = dataset.map(lambda i: (i, examples.read(i)), PARALLEL).ignore_errors()
    progress = keras.utils.Progbar(
        len(examples), unit_name="image", verbose=int(sys.stdout.isatty())
    )
    readable, images, room = [], [], cache_mib * 2**20
    for done, (index, image) in enumerate(dataset.prefetch(PARALLEL).as_numpy_iterator(), 1):
        readable.append(index)
        room -= image.nbytes
        if room >= 0:
            images.append(image)
        progress.update(done)
    unreadable = np.setdiff1d(np.arange(len(examples)), readable)
    reasons = {examples.names[index]: _reason(examples, index) for index in unreadable}
    examples = examples.subset(np.array(readable, "int64"))
    return (_in_memory(examples, images) if images and room >= 0 else examples), reasons


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
        if recipe.crop:
            seed = tf.stack([recipe.seed, tf.cast(position, tf.int32)])
            image = recipe.crop(image, preprocessing.image_size, seed)
            image.set_shape((*preprocessing.image_size, recipe.channels))
        else:
            image = preprocessing.fit(image)
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
    at_size = pixels is not None and pixels.shape[1:3] == preprocessing.image_size
    if at_size and not recipe.crop and preprocessing.crop == 1:
        pixels = tf.constant(pixels)
        batches = tf.data.Dataset.range(steps).map(gather, PARALLEL)
    else:
        batches = tf.data.Dataset.range(steps * recipe.batch_size).map(read, PARALLEL)
        batches = batches.batch(recipe.batch_size, drop_remainder=True)
    batches = tf.data.Dataset.zip((tf.data.Dataset.range(steps), batches))
    return batches.map(finish, PARALLEL).prefetch(PARALLEL)


def evaluation_batches(examples, preprocessing, batch_size):
    """Every example once, in order, as `predict` and an exported model see it.

    Returns:
        tf.data.Dataset like `training_batches`' with a smaller last batch.
    """
    labels = tf.one_hot(examples.labels, len(examples.class_names))

    def read(index):
        return preprocessing(examples.read(index)), labels[index]

    dataset = tf.data.Dataset.range(len(examples)).map(read, PARALLEL)
    return dataset.batch(batch_size).prefetch(PARALLEL)


def even_batch_size(count, largest):
    """The size of the fewest batches of at most `largest` images that hold `count`, about alike.

    A last batch of another shape would be compiled anew.
    """
    batches = -(-count // largest)
    return -(-count // batches)


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
        return error.message.split("}} ")[-1].split(" [Op:")[0].strip()
    return "readable at the second try"
