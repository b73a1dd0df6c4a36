"""Training images -> randomly cropped and augmented training images: TensorFlow functions.

There are two kinds. Augmentations of single images, in images.py, run after a crop and before a
batch augmentation.
- A crop works on one image, before it has the model's size: (image, size, seed) -> image.
- A batch augmentation works on a block of a batch: (images, labels, seed) -> (images, labels).
  Images are float32 (block, height, width, channels) of 0..255; labels are float32
  (block, classes), class probabilities.

A seed is int32 (2,), and decides everything random.

To add one: write a function here, its row in CROPS or AUGMENTATIONS below and a test in
tests/training/test_augment_batches.py, and use it in a recipe.
"""

import ast
import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from training.augment.images import fold_in
from vit_keras.utils.errors import InputError, did_you_mean

Batch = tuple[tf.Tensor, tf.Tensor]  # images, labels


def random_resized_crop(
    image: tf.Tensor,
    size: tuple[int, int],
    seed: tf.Tensor,
    area: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
) -> tf.Tensor:
    """Cuts a random box and resizes it (GoogLeNet's augmentation, arXiv:1409.4842, section 6).

    Args:
        image: (height, width, channels), any size.
        size: (height, width) of the result, pixels.
        seed: int32 (2,).
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
    # Without shrinking, antialiasing gives the same and takes longer.
    return tf.cond(
        tf.reduce_any(extent[:2] > tf.constant(size)),
        lambda: tf.image.resize(box, size, interpolation, antialias=True),
        lambda: tf.image.resize(box, size, interpolation),
    )


def resized_crop_of_border(
    image: tf.Tensor,
    size: tuple[int, int],
    seed: tf.Tensor,
    pixels: int = 4,
    interpolation: str = "bilinear",
) -> tf.Tensor:
    """Resizes the image, adds a black border and cuts out a random box of the image's size.

    ResNets use it on CIFAR (arXiv:1512.03385, section 4.2). DeiT III uses it on ImageNet-21k,
    with a border that mirrors the image.

    Args:
        image: (height, width, channels), any size.
        size: (height, width) of the result, pixels.
        seed: int32 (2,).
        pixels: width of the border.
        interpolation: "bilinear" or "bicubic", with antialiasing.

    Returns:
        float32 (*size, channels).
    """
    image = tf.image.resize(image, size, interpolation, antialias=True)
    padded = tf.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    return tf.image.stateless_random_crop(padded, (*size, image.shape[-1]), seed)


def flip(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> Batch:
    """Mirrors half of the images left to right."""
    mirrored = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed) < 0.5
    return _choose(mirrored, tf.reverse(images, axis=[2]), images), labels


def shift(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, pixels: int = 4) -> Batch:
    """Moves each image by up to `pixels` in both directions, and repeats its border."""
    _, height, width, _ = images.shape
    offsets = tf.random.stateless_uniform(
        (tf.shape(images)[0], 2), seed, -pixels, pixels + 1, dtype=tf.int32
    )
    rows = tf.clip_by_value(tf.range(height) + offsets[:, :1], 0, height - 1)
    columns = tf.clip_by_value(tf.range(width) + offsets[:, 1:], 0, width - 1)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1), labels


def random_erasing(
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    probability: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    ratio: tuple[float, float] = (0.3, 3.3),
) -> Batch:
    """Fills a random box with noise (arXiv:1708.04896, RE-R: each value uniform in 0..255).

    Boxes lie within the image; sides longer than the image's are cut to it.

    Args:
        images: float32 (block, height, width, channels), 0..255.
        labels: returned unchanged.
        seed: int32 (2,).
        probability: that an image loses a box.
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
    rows = tf.range(height, dtype=tf.float32) + 0.5
    columns = tf.range(width, dtype=tf.float32) + 0.5
    box = _box((rows > top) & (rows < top + tall), (columns > left) & (columns < left + wide))
    noise = tf.random.stateless_uniform(tf.shape(images), fold_in(seed, 1), 0.0, 255.0)
    return _choose(box, noise, images), labels


def cutmix(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, probability: float = 0.5
) -> Batch:
    """Pastes a random box of another image into each image, and mixes labels by area (CutMix).

    As in algorithm 1 of arXiv:1905.04899, the box's fraction of the image and its centre are
    uniform, and its part outside of the image is cut off. Each image has its own box and partner.

    Args:
        images: float32 (block, height, width, channels), 0..255.
        labels: float32 (block, classes).
        seed: int32 (2,).
        probability: that an image is mixed.
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


def mixup(
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    alpha: float = 0.8,
    probability: float = 1.0,
) -> Batch:
    """Averages each image and its label with another (MixUp, arXiv:1710.09412).

    Each image has its own weight and partner.

    Args:
        images: float32 (block, height, width, channels), 0..255.
        labels: float32 (block, classes).
        seed: int32 (2,).
        alpha: of the Beta distribution of an image's weight in the result.
        probability: that an image is mixed.
    """
    batch = tf.shape(images)[0]
    # a / (a + b) of two gamma-distributed numbers is beta-distributed.
    own, other = tf.unstack(tf.random.stateless_gamma((2, batch, 1), seed, alpha))
    draw = tf.random.stateless_uniform((batch, 1), fold_in(seed, 1))
    share = tf.where(draw < probability, own / tf.maximum(own + other, 1e-30), 1.0)
    pixel_share = share[:, tf.newaxis, tf.newaxis]
    partner = _partners(images, seed)
    images = pixel_share * images + (1 - pixel_share) * tf.gather(images, partner)
    return images, share * labels + (1 - share) * tf.gather(labels, partner)


def mixup_or_cutmix(
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    alpha: float = 0.8,
    probability: float = 1.0,
    cut: float = 0.5,
) -> Batch:
    """Applies MixUp or CutMix to the whole block, as DeiT does to each batch.

    Args:
        images: float32 (block, height, width, channels), 0..255.
        labels: float32 (block, classes).
        seed: int32 (2,).
        alpha: of MixUp.
        probability: that an image is mixed.
        cut: probability of CutMix.
    """
    draw = tf.random.stateless_uniform((), seed)
    return tf.cond(
        draw < cut,
        lambda: cutmix(images, labels, fold_in(seed, 1), probability),
        lambda: mixup(images, labels, fold_in(seed, 2), alpha, probability),
    )


def _partners(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws for each image the index of another.

    Neighbours are not partners: with repeated augmentation they are copies of one image.
    """
    order = tf.random.experimental.stateless_shuffle(
        tf.range(tf.shape(images)[0]), fold_in(seed, 2)
    )
    following = tf.roll(order, -1, axis=0)
    return tf.scatter_nd(order[:, tf.newaxis], following, tf.shape(order))


def _choose(condition: tf.Tensor, yes: tf.Tensor, no: tf.Tensor) -> tf.Tensor:
    """Does what tf.where does, for finite float32, in a third of the time."""
    share = tf.cast(condition, tf.float32)
    return share * yes + (1 - share) * no


def _box(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Boolean (batch, height) and (batch, width) -> (batch, height, width, 1)."""
    return rows[:, :, tf.newaxis, tf.newaxis] & columns[:, tf.newaxis, :, tf.newaxis]


def by_name(text: str, table: Mapping[str, Callable]) -> Callable:
    """Returns the function that a text names.

    Args:
        text: 'shift', or 'shift(pixels=2)' as `describe` writes it.
        table: CROPS, AUGMENTATIONS or IMAGE_AUGMENTATIONS.

    Raises:
        InputError: for an unknown name or argument; its message has the nearest ones.
    """
    name = text
    arguments: dict[str, Any] = {}
    with contextlib.suppress(SyntaxError, ValueError):
        call = ast.parse(text, mode="eval").body
        if isinstance(call, ast.Call) and not call.args:
            arguments = {
                str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords
            }
            name = ast.unparse(call.func)
    if name not in table:
        raise InputError(f"no such augmentation: {name!r}{did_you_mean(name, table)}")
    known = inspect.signature(table[name]).parameters
    for argument in arguments:
        if argument not in known:
            raise InputError(f"{name} has no argument {argument!r}{did_you_mean(argument, known)}")
    return functools.partial(table[name], **arguments) if arguments else table[name]


def describe(function: Callable) -> str:
    """Returns 'shift(pixels=2)' for the partial(shift, pixels=2) of a recipe."""
    if not isinstance(function, functools.partial):
        return function.__name__
    arguments = ", ".join(f"{key}={value!r}" for key, value in function.keywords.items())
    return f"{function.func.__name__}({arguments})"


def _named(*functions: Callable) -> dict[str, Callable]:
    return {function.__name__: function for function in functions}


CROPS = _named(random_resized_crop, resized_crop_of_border)
AUGMENTATIONS = _named(flip, shift, random_erasing, mixup, cutmix, mixup_or_cutmix)
