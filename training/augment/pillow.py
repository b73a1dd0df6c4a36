"""uint8 image -> uint8 image: what RandAugment is made of, each giving what Pillow gives.

Images are (height, width, channels), of 1 or 3 channels. Pillow's names and arguments are used,
and its rounding: tests/training/test_pixels.py compares.
"""

import math

import tensorflow as tf

GREY = 128  # behind the border of moved images, as in the AutoAugment authors' code


def autocontrast(image):
    """Stretches each channel to 0..255 (ImageOps.autocontrast)."""
    low = tf.cast(tf.reduce_min(image, axis=(0, 1)), tf.float64)
    high = tf.cast(tf.reduce_max(image, axis=(0, 1)), tf.float64)
    scale = tf.where(high > low, 255 / tf.maximum(high - low, 1), 1)
    offset = tf.where(high > low, -low * scale, 0)
    return tf.cast(tf.clip_by_value(tf.cast(image, tf.float64) * scale + offset, 0, 255), tf.uint8)


def equalize(image):
    """Makes each channel's histogram as flat as can be (ImageOps.equalize)."""
    channels = image.shape[-1]
    values = tf.cast(tf.transpose(tf.reshape(image, (-1, channels))), tf.int32)
    counts = tf.math.bincount(values, minlength=256, maxlength=256, axis=-1)  # (channels, 256)
    last = tf.gather(counts, tf.reduce_max(values, axis=1), batch_dims=1)
    step = (tf.shape(values)[1] - last)[:, tf.newaxis] // 255
    table = (step // 2 + tf.cumsum(counts, axis=1, exclusive=True)) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.clip_by_value(table, 0, 255), tf.range(256))
    table = tf.reshape(tf.cast(table, tf.uint8), (-1,))
    return tf.gather(table, tf.cast(image, tf.int32) + 256 * tf.range(channels))


def solarize(image, threshold=128):
    """Inverts what is as bright as `threshold`, 0..256, or brighter (ImageOps.solarize)."""
    threshold = tf.cast(threshold, tf.int32)
    bright = (image >= tf.cast(tf.minimum(threshold, 255), tf.uint8)) & (threshold < 256)
    return tf.bitwise.bitwise_xor(image, 255 * tf.cast(bright, tf.uint8))


def posterize(image, bits):
    """Keeps the highest bits of every value (ImageOps.posterize)."""
    mask = 256 - tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def grayscale(image):
    """ITU-R 601 luma in every channel (Image.convert("L"))."""
    channels = image.shape[-1]
    if channels == 1:
        return image
    # In 1/65536, as Pillow counts; float32 holds all of it.
    weights = tf.repeat([[19595.0], [38470.0], [7471.0]], channels, axis=1)
    luma = tf.tensordot(tf.cast(image, tf.float32), weights, 1)
    return tf.cast((luma + 32768) / 65536, tf.uint8)


def mean_grey(image):
    """The mean of `grayscale`, a whole number."""
    luma = tf.cast(grayscale(image)[..., 0], tf.int64)
    return tf.cast(tf.floor(tf.reduce_sum(luma) / tf.size(luma, tf.int64) + 0.5), tf.uint8)


def smooth(image):
    """Weighs a pixel by 5 and its neighbours by 1 (ImageFilter.SMOOTH); the border is kept."""
    x = tf.cast(image, tf.float32)
    rows = x[:-2] + x[1:-1] + x[2:]
    inner = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * x[1:-1, 1:-1]
    inner = tf.cast(inner / 13 + 0.5, tf.uint8)
    middle = tf.concat([image[1:-1, :1], inner, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], middle, image[-1:]], axis=0)


# What an enhancement leads away from, in uint8 that fits the image: factor 0 is that, 1 is the
# image, and above 1 it goes on (ImageEnhance.Color, Contrast, Brightness, Sharpness).
STARTS = {
    "color": grayscale,
    "contrast": lambda image: tf.reshape(mean_grey(image), (1, 1, 1)),
    "brightness": lambda image: tf.zeros((1, 1, 1), tf.uint8),
    "sharpness": smooth,
}


def enhance(image, start, factor):
    """start + factor * (image - start), cut off as Image.blend does."""
    start, image = tf.cast(start, tf.float32), tf.cast(image, tf.float32)
    blended = start + tf.cast(factor, tf.float32) * (image - start)
    return tf.cast(tf.clip_by_value(blended, 0.0, 255.0), tf.uint8)


def affine(image, matrix):
    """Moves the image (Image.transform, nearest pixel, grey behind its border).

    The pixel at (x, y) comes from (a x + b y + c, d x + e y + f), counted in 1/65536 of a pixel
    from the pixels' centres, as Pillow counts (Geometry.c).

    Args:
        matrix: float64 (6,), (a, b, c, d, e, f).
    """
    a, b, c, d, e, f = tf.unstack(matrix)
    steps = tf.stack([a, b, c + (a + b) / 2, d, e, f + (d + e) / 2])
    a, b, c, d, e, f = tf.unstack(tf.cast(tf.floor(65536 * steps + 0.5), tf.int32))
    height, width, channels = tf.unstack(tf.shape(image))
    columns, rows = tf.range(width), tf.range(height)[:, tf.newaxis]
    x = tf.bitwise.right_shift(a * columns + b * rows + c, 16)
    y = tf.bitwise.right_shift(d * columns + e * rows + f, 16)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    pixels = tf.reshape(image, (-1, channels))
    pixels = tf.concat([pixels, tf.fill((1, channels), tf.constant(GREY, tf.uint8))], axis=0)
    moved = tf.gather(pixels, tf.where(inside, y * width + x, height * width))
    return tf.ensure_shape(moved, image.shape)


def rotation(height, width, degrees):
    """The matrix of `affine` that turns counter-clockwise about the centre (Image.rotate)."""
    angle = -degrees * (math.pi / 180)
    cos, sin, x, y = tf.cos(angle), tf.sin(angle), width / 2, height / 2
    return tf.stack([cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y])


def gaussian_blur(image, sigma, largest=2.0):
    """Convolves with a Gaussian of `sigma` pixels, at most `largest`; the border is repeated."""
    radius = round(3 * largest)
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-0.5 * tf.square(offsets / sigma))
    kernel = kernel / tf.reduce_sum(kernel)
    x = tf.cast(image, tf.float32)
    edge = tf.range(-radius, tf.shape(image)[0] + radius)
    x = tf.gather(x, tf.clip_by_value(edge, 0, tf.shape(image)[0] - 1), axis=0)
    edge = tf.range(-radius, tf.shape(image)[1] + radius)
    x = tf.gather(x, tf.clip_by_value(edge, 0, tf.shape(image)[1] - 1), axis=1)
    x = tf.transpose(x, (2, 0, 1))[..., tf.newaxis]  # channels are the batch
    x = tf.nn.conv2d(x, kernel[:, tf.newaxis, tf.newaxis, tf.newaxis], 1, "VALID")
    x = tf.nn.conv2d(x, kernel[tf.newaxis, :, tf.newaxis, tf.newaxis], 1, "VALID")
    return tf.saturate_cast(tf.round(tf.transpose(x[..., 0], (1, 2, 0))), tf.uint8)
