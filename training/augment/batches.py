"""Training images -> training images that look different each time: plain TensorFlow functions.

The seed, two int32 numbers, decides all that is random. What works on single images stands in
augment_images.py and runs between these two:
- A crop works on one image, before it has the model's size: (image, size, seed) -> image.
- A batch augmentation works on a block of a batch: (images, labels, seed) -> (images, labels),
  where images are float32 (block, height, width, channels) of 0..255 and labels are one row of
  class probabilities per image.

Adding one: a function here, its row in CROPS or AUGMENTATIONS below, its test in
tests/training/test_augment.py, and its place in a recipe.
"""

import ast
import contextlib
import functools
import inspect

import tensorflow as tf

from training.augment.images import fold_in
from vit_keras.utils.errors import InputError, did_you_mean


def random_resized_crop(
    image, size, seed, area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation="bilinear"
):
    """Cuts a random box and resizes it (GoogLeNet's augmentation, arXiv:1409.4842, section 6).

    Args:
        image: (height, width, channels), any size.
        size: (height, width) of the result, pixels.
        area: smallest and largest fraction of the image's area in the box.
        ratio: smallest and largest width / height of the box.
        interpolation: "bilinear" or "bicubic", with antialiasing.

    Returns:
        float32 (*size, channels).
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        [[[0.0, 0.0, 1.0, 1.0]]],
        seed,
        min_object_covered=0.0,
        area_range=area,
        aspect_ratio_range=ratio,
    )
    box = tf.slice(image, begin, extent)
    # Where nothing shrinks antialiasing changes nothing but the time it takes.
    return tf.cond(
        tf.reduce_any(extent[:2] > tf.constant(size)),
        lambda: tf.image.resize(box, size, interpolation, antialias=True),
        lambda: tf.image.resize(box, size, interpolation),
    )


def resized_crop_of_border(image, size, seed, pixels=4, interpolation="bilinear"):
    """Resizes the image, and cuts as large a box anywhere from it and a black border around it.

    What ResNets do on CIFAR (arXiv:1512.03385, section 4.2), and DeiT III, whose border mirrors
    the image, on ImageNet-21k.

    Args:
        pixels: width of the border.
    """
    image = tf.image.resize(image, size, interpolation, antialias=True)
    padded = tf.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    return tf.image.stateless_random_crop(padded, (*size, image.shape[-1]), seed)


def flip(images, labels, seed):
    """Mirrors half of the images left to right."""
    mirrored = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed) < 0.5
    return _choose(mirrored, tf.reverse(images, axis=[2]), images), labels


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


def random_erasing(images, labels, seed, probability=0.25, area=(0.02, 1 / 3), ratio=(0.3, 3.3)):
    """Fills a random box with noise (arXiv:1708.04896, RE-R: each value uniform in 0..255).

    Boxes lie inside of the image; a side that would be longer than the image's is cut to it.

    Args:
        probability: of an image to lose a box.
        area: smallest and largest fraction of the image's area in the box.
        ratio: smallest and largest height / width of the box.
    """
    batch = tf.shape(images)[0]
    share, aspect, y, x, draw = tf.unstack(tf.random.stateless_uniform((5, batch, 1), seed))
    share = area[0] + share * (area[1] - area[0])
    share = tf.where(draw < probability, share, 0.0)
    low, high = tf.math.log(float(ratio[0])), tf.math.log(float(ratio[1]))
    aspect = tf.exp(low + aspect * (high - low))
    height, width = images.shape[1:3]
    tall = tf.minimum(tf.sqrt(share * aspect * height * width), float(height))
    wide = tf.minimum(tf.sqrt(share / aspect * height * width), float(width))
    top, left = y * (height - tall), x * (width - wide)
    rows, columns = (
        tf.range(height, dtype=tf.float32) + 0.5,
        tf.range(width, dtype=tf.float32) + 0.5,
    )
    box = _box((rows > top) & (rows < top + tall), (columns > left) & (columns < left + wide))
    noise = tf.random.stateless_uniform(tf.shape(images), fold_in(seed, 1), 0.0, 255.0)
    return _choose(box, noise, images), labels


def cutmix(images, labels, seed, probability=0.5):
    """Puts a random box of another image into an image, and as much of its label (CutMix).

    arXiv:1905.04899, algorithm 1: the box's share of the image is uniform, its centre anywhere,
    and what falls outside is cut off. Each image has its own box, and any other as its partner.

    Args:
        probability: of an image to be mixed.
    """
    batch, height, width, _ = tf.unstack(tf.shape(images))
    share, y, x, draw = tf.unstack(tf.random.stateless_uniform((4, batch, 1), seed))
    half = tf.where(draw < probability, tf.sqrt(share) / 2, 0.0)  # of the box's side, in sides
    rows = (tf.range(height, dtype=tf.float32) + 0.5) / tf.cast(height, tf.float32)
    columns = (tf.range(width, dtype=tf.float32) + 0.5) / tf.cast(width, tf.float32)
    box = _box(tf.abs(rows - y) < half, tf.abs(columns - x) < half)
    mixed = tf.reduce_mean(tf.cast(box, tf.float32), axis=[1, 2])  # (batch, 1)
    partner = _partners(images, seed)
    images = _choose(box, tf.gather(images, partner), images)
    return images, (1 - mixed) * labels + mixed * tf.gather(labels, partner)


def mixup(images, labels, seed, alpha=0.8, probability=1.0):
    """Averages two images and their labels (MixUp, arXiv:1710.09412).

    Each image has its own share, and any other as its partner.

    Args:
        alpha: of the Beta distribution of an image's share of the result.
        probability: of an image to be mixed.
    """
    batch = tf.shape(images)[0]
    # The share of one of two gamma-distributed numbers in their sum is beta-distributed.
    mine, other = tf.unstack(tf.random.stateless_gamma((2, batch, 1), seed, alpha))
    draw = tf.random.stateless_uniform((batch, 1), fold_in(seed, 1))
    share = tf.where(draw < probability, mine / tf.maximum(mine + other, 1e-30), 1.0)
    pixel_share = share[:, tf.newaxis, tf.newaxis]
    partner = _partners(images, seed)
    images = pixel_share * images + (1 - pixel_share) * tf.gather(images, partner)
    return images, share * labels + (1 - share) * tf.gather(labels, partner)


def mixup_or_cutmix(images, labels, seed, alpha=0.8, probability=1.0, cut=0.5):
    """MixUp or CutMix, the same for all of these images, as DeiT switches for each batch.

    Args:
        alpha: of MixUp.
        probability: of an image to be mixed.
        cut: probability of CutMix.
    """
    draw = tf.random.stateless_uniform((), seed)
    return tf.cond(
        draw < cut,
        lambda: cutmix(images, labels, fold_in(seed, 1), probability),
        lambda: mixup(images, labels, fold_in(seed, 2), alpha, probability),
    )


def _partners(images, seed):
    """For each image the index of another: copies of one (repeated augmentation) lie side by side,
    and should not all meet the same.
    """
    order = tf.random.experimental.stateless_shuffle(
        tf.range(tf.shape(images)[0]), fold_in(seed, 2)
    )
    following = tf.roll(order, -1, axis=0)
    return tf.scatter_nd(order[:, tf.newaxis], following, tf.shape(order))


def _choose(condition, yes, no):
    """tf.where for finite float32, whose kernel takes three times as long"""
    share = tf.cast(condition, tf.float32)
    return share * yes + (1 - share) * no


def _box(rows, columns):
    """Boolean (batch, height) and (batch, width) -> (batch, height, width, 1)"""
    return rows[:, :, tf.newaxis, tf.newaxis] & columns[:, tf.newaxis, :, tf.newaxis]


def by_name(text, table):
    """'shift', or 'shift(pixels=2)' as `describe` writes it -> the function.

    Args:
        table: CROPS, AUGMENTATIONS or IMAGE_AUGMENTATIONS.

    Raises:
        InputError: unknown name or argument, with the nearest ones.
    """
    name, arguments = text, {}
    with contextlib.suppress(SyntaxError, ValueError):
        call = ast.parse(text, mode="eval").body
        if isinstance(call, ast.Call) and not call.args:
            arguments = {str(given.arg): ast.literal_eval(given.value) for given in call.keywords}
            name = ast.unparse(call.func)
    if name not in table:
        raise InputError(f"no such augmentation: {name!r}{did_you_mean(name, table)}")
    known = inspect.signature(table[name]).parameters
    for argument in arguments:
        if argument not in known:
            raise InputError(f"{name} has no argument {argument!r}{did_you_mean(argument, known)}")
    return functools.partial(table[name], **arguments) if arguments else table[name]


def describe(function):
    """'shift(pixels=2)' for the partial(shift, pixels=2) of a recipe."""
    if not isinstance(function, functools.partial):
        return function.__name__
    arguments = ", ".join(f"{key}={value!r}" for key, value in function.keywords.items())
    return f"{function.func.__name__}({arguments})"


def _named(*functions):
    return {function.__name__: function for function in functions}


CROPS = _named(random_resized_crop, resized_crop_of_border)
AUGMENTATIONS = _named(flip, shift, random_erasing, mixup, cutmix, mixup_or_cutmix)
