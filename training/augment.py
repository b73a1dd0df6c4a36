"""Training images -> training images that look different each time: plain TensorFlow functions.

A crop works on one image, before it has the model's size: (image, size, seed) -> image.
Every other works on a batch: (images, labels, seed) -> (images, labels), where images are
float32 (batch, height, width, channels) of 0..255 and labels are one row of class probabilities
per image. The seed, two int32 numbers, decides all that is random.

Adding one: a function here, its row in CROPS or AUGMENTATIONS below, its test in
tests/test_augment.py, and its place in a recipe.
"""

import functools

import tensorflow as tf

from vit_keras.errors import InputError, did_you_mean


def random_resized_crop(image, size, seed, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3)):
    """Cuts a random box and resizes it (GoogLeNet's augmentation, arXiv:1409.4842, section 6).

    Args:
        image: (height, width, channels), any size.
        size: (height, width) of the result, pixels.
        area: smallest and largest fraction of the image's area in the box.
        ratio: smallest and largest width / height of the box.

    Returns:
        float32 (*size, channels), resized bilinearly with antialiasing.
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        [[[0.0, 0.0, 1.0, 1.0]]],
        seed,
        min_object_covered=0.0,
        area_range=area,
        aspect_ratio_range=ratio,
    )
    return tf.image.resize(tf.slice(image, begin, extent), size, antialias=True)


def flip(images, labels, seed):
    """Mirrors half of the images left to right."""
    mirrored = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed) < 0.5
    return tf.where(mirrored, tf.reverse(images, axis=[2]), images), labels


def shift(images, labels, seed, pixels=4):
    """Moves each image by up to `pixels` in both directions, repeating its border."""
    _, height, width, _ = images.shape
    offsets = tf.random.stateless_uniform(
        (tf.shape(images)[0], 2), seed, -pixels, pixels + 1, dtype=tf.int32
    )
    rows = tf.clip_by_value(tf.range(height) + offsets[:, :1], 0, height - 1)
    columns = tf.clip_by_value(tf.range(width) + offsets[:, 1:], 0, width - 1)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1), labels


def cutmix(images, labels, seed, probability=0.5):
    """Puts a random box of another image into an image, and as much of its label (CutMix).

    arXiv:1905.04899, algorithm 1: the box's share of the image is uniform, its centre anywhere,
    and what falls outside is cut off. Each image has its own box; the other image is the one at
    the same place from the end of the batch.

    Args:
        probability: of an image to be mixed.
    """
    batch, height, width, _ = tf.unstack(tf.shape(images))
    share, y, x, draw = tf.unstack(tf.random.stateless_uniform((4, batch, 1), seed))
    half = tf.where(draw < probability, tf.sqrt(share) / 2, 0.0)  # of the box's side, in sides
    rows = (tf.range(height, dtype=tf.float32) + 0.5) / tf.cast(height, tf.float32)
    columns = (tf.range(width, dtype=tf.float32) + 0.5) / tf.cast(width, tf.float32)
    inside_rows = tf.abs(rows - y) < half  # (batch, height)
    inside_columns = tf.abs(columns - x) < half  # (batch, width)
    box = inside_rows[:, :, tf.newaxis] & inside_columns[:, tf.newaxis, :]
    images = tf.where(box[..., tf.newaxis], tf.reverse(images, axis=[0]), images)
    mixed = tf.reduce_mean(tf.cast(box, tf.float32), axis=[1, 2])[:, tf.newaxis]
    return images, (1 - mixed) * labels + mixed * tf.reverse(labels, axis=[0])


def by_name(name, table):
    """The function called `name` in CROPS or AUGMENTATIONS.

    Raises:
        InputError: unknown name, with the nearest ones.
    """
    if name not in table:
        raise InputError(f"no such augmentation: {name!r}{did_you_mean(name, table)}")
    return table[name]


def describe(function):
    """'shift(pixels=2)' for the partial(shift, pixels=2) of a recipe."""
    if not isinstance(function, functools.partial):
        return function.__name__
    arguments = ", ".join(f"{key}={value!r}" for key, value in function.keywords.items())
    return f"{function.func.__name__}({arguments})"


CROPS = {f.__name__: f for f in (random_resized_crop,)}
AUGMENTATIONS = {f.__name__: f for f in (flip, shift, cutmix)}
