"""uint8 image -> uint8 image: the operations of RandAugment, equal to Pillow's to the last bit.

Images are (height, width, channels), with 1 or 3 channels. Names, arguments and rounding are
Pillow's; tests/training/test_augment_pillow.py compares them.
"""

import math

import tensorflow as tf

GREY = 128  # fills the empty border of moved images, as in the AutoAugment authors' code


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to 0..255 (ImageOps.autocontrast)."""
    low = tf.cast(tf.reduce_min(image, axis=(0, 1)), tf.float64)
    high = tf.cast(tf.reduce_max(image, axis=(0, 1)), tf.float64)
    scale = tf.where(high > low, 255 / tf.maximum(high - low, 1), 1)
    offset = tf.where(high > low, -low * scale, 0)
    return tf.cast(tf.clip_by_value(tf.cast(image, tf.float64) * scale + offset, 0, 255), tf.uint8)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Flattens the histogram of each channel (ImageOps.equalize)."""
    channels = image.shape[-1]
    values = tf.cast(tf.transpose(tf.reshape(image, (-1, channels))), tf.int32)
    counts = tf.math.bincount(values, minlength=256, maxlength=256, axis=-1)  # (channels, 256)
    last = tf.gather(counts, tf.reduce_max(values, axis=1), batch_dims=1)
    step = (tf.shape(values)[1] - last)[:, tf.newaxis] // 255
    table = (step // 2 + tf.cumsum(counts, axis=1, exclusive=True)) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.clip_by_value(table, 0, 255), tf.range(256))
    table = tf.reshape(tf.cast(table, tf.uint8), (-1,))
    return tf.gather(table, tf.cast(image, tf.int32) + 256 * tf.range(channels))


def solarize(image: tf.Tensor, threshold: int | tf.Tensor = 128) -> tf.Tensor:
    """Inverts values of `threshold`, 0..256, and above (ImageOps.solarize)."""
    threshold = tf.cast(threshold, tf.int32)
    bright = (image >= tf.cast(tf.minimum(threshold, 255), tf.uint8)) & (threshold < 256)
    return tf.bitwise.bitwise_xor(image, 255 * tf.cast(bright, tf.uint8))


def posterize(image: tf.Tensor, bits: int | tf.Tensor) -> tf.Tensor:
    """Keeps the highest bits of every value (ImageOps.posterize)."""
    mask = 256 - tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def grayscale(image: tf.Tensor) -> tf.Tensor:
    """Sets every channel to the ITU-R 601 luma (Image.convert("L"))."""
    channels = image.shape[-1]
    if channels == 1:
        return image
    # In units of 1/65536, as in Pillow; float32 is exact for these numbers.
    weights = tf.repeat([[19595.0], [38470.0], [7471.0]], channels, axis=1)
    luma = tf.tensordot(tf.cast(image, tf.float32), weights, 1)
    return tf.cast((luma + 32768) / 65536, tf.uint8)


def mean_grey(image: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `grayscale`, rounded: uint8, scalar."""
    luma = tf.cast(grayscale(image)[..., 0], tf.int64)
    return tf.cast(tf.floor(tf.reduce_sum(luma) / tf.size(luma, tf.int64) + 0.5), tf.uint8)


def smooth(image: tf.Tensor) -> tf.Tensor:
    """Averages each pixel, with weight 5, and its 8 neighbours (ImageFilter.SMOOTH).

    Pixels of the border stay as they are.
    """
    x = tf.cast(image, tf.float32)
    rows = x[:-2] + x[1:-1] + x[2:]
    inner = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * x[1:-1, 1:-1]
    inner = tf.cast(inner / 13 + 0.5, tf.uint8)
    middle = tf.concat([image[1:-1, :1], inner, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], middle, image[-1:]], axis=0)


# The image at factor 0 of an enhancement, uint8, of a shape that broadcasts to the image's
# (ImageEnhance.Color, Contrast, Brightness, Sharpness).
STARTS = {
    "color": grayscale,
    "contrast": lambda image: tf.reshape(mean_grey(image), (1, 1, 1)),
    "brightness": lambda image: tf.zeros((1, 1, 1), tf.uint8),
    "sharpness": smooth,
}


def enhance(image: tf.Tensor, start: tf.Tensor, factor: float | tf.Tensor) -> tf.Tensor:
    """Returns start + factor * (image - start), clipped as Image.blend does.

    Args:
        image: uint8 (height, width, channels).
        start: a value of STARTS for the image.
        factor: 0 gives start, 1 the image; above 1 extrapolates.
    """
    start, image = tf.cast(start, tf.float32), tf.cast(image, tf.float32)
    blended = start + tf.cast(factor, tf.float32) * (image - start)
    return tf.cast(tf.clip_by_value(blended, 0.0, 255.0), tf.uint8)


def affine(image: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Moves the image, with nearest-pixel sampling and a grey border (Image.transform).

    The pixel at (x, y) comes from (a x + b y + c, d x + e y + f), between centres of pixels, in
    units of 1/65536 of a pixel as in Pillow (Geometry.c).

    Args:
        image: uint8 (height, width, channels).
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


def rotation(
    height: float | tf.Tensor, width: float | tf.Tensor, degrees: float | tf.Tensor
) -> tf.Tensor:
    """Returns the matrix of `affine` for a counter-clockwise rotation (Image.rotate).

    Args:
        height: of the image, pixels; the rotation is about its centre.
        width: of the image, pixels.
        degrees: angle.

    Returns:
        (6,), (a, b, c, d, e, f), of the arguments' type.
    """
    angle = -degrees * (math.pi / 180)
    cos, sin, x, y = tf.cos(angle), tf.sin(angle), width / 2, height / 2
    return tf.stack([cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y])


def gaussian_blur(image: tf.Tensor, sigma: float | tf.Tensor, largest: float = 2.0) -> tf.Tensor:
    """Convolves with a Gaussian; the border is repeated.

    Args:
        image: uint8 (height, width, channels).
        sigma: standard deviation, pixels.
        largest: upper bound of sigma; decides the size of the kernel.
    """
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
