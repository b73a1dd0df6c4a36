"""uint8 image -> uint8 image: RandAugment's operations, each giving what Pillow gives.

Images are (height, width, channels), of 1 or 3 channels. Pillow's names and arguments are used,
and its rounding: tests/test_pixels.py compares.
"""

import tensorflow as tf

GREY = 128  # behind the border of moved images, as in the AutoAugment authors' code


def autocontrast(image):
    """Stretches each channel to 0..255 (ImageOps.autocontrast)."""
    low = tf.cast(tf.reduce_min(image, axis=(0, 1)), tf.float64)
    high = tf.cast(tf.reduce_max(image, axis=(0, 1)), tf.float64)
    scale = tf.where(high > low, 255 / tf.maximum(high - low, 1), 1)
    offset = tf.where(high > low, -low * scale, 0)
    levels = tf.range(256, dtype=tf.float64)[:, tf.newaxis]
    return _look_up(image, tf.cast(levels * scale + offset, tf.int32))


def equalize(image):
    """Makes each channel's histogram as flat as can be (ImageOps.equalize)."""
    channels = image.shape[-1]
    values = tf.cast(tf.reshape(image, (-1, channels)), tf.int32)
    ones = values + 256 * tf.range(channels)
    counts = tf.math.bincount(tf.reshape(ones, (-1,)), minlength=256 * channels)
    counts = tf.transpose(tf.reshape(counts, (channels, 256)))  # (256, channels)
    brightest = tf.reduce_max(values, axis=0)
    last = tf.gather(tf.transpose(counts), brightest, batch_dims=1)
    step = (tf.shape(values)[0] - last) // 255
    before = tf.cumsum(counts, exclusive=True)
    table = (step // 2 + before) // tf.maximum(step, 1)
    identity = tf.range(256)[:, tf.newaxis]
    return _look_up(image, tf.where(step > 0, table, identity))


def solarize(image, threshold=128):
    """Inverts what is as bright as `threshold` or brighter (ImageOps.solarize)."""
    return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def posterize(image, bits):
    """Keeps the highest bits of every value (ImageOps.posterize)."""
    mask = 256 - tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def grayscale(image):
    """ITU-R 601 luma in every channel (Image.convert("L"))."""
    if image.shape[-1] == 1:
        return image
    x = tf.cast(image, tf.int32)
    luma = (x[..., 0] * 19595 + x[..., 1] * 38470 + x[..., 2] * 7471 + 0x8000) // 65536
    return tf.repeat(tf.cast(luma, tf.uint8)[..., tf.newaxis], 3, axis=-1)


def color(image, factor):
    """0 for grey, 1 for the image, more for stronger colours (ImageEnhance.Color)."""
    return _blend(tf.cast(grayscale(image), tf.float32), image, factor)


def brightness(image, factor):
    """0 for black (ImageEnhance.Brightness)."""
    return _blend(0.0, image, factor)


def contrast(image, factor):
    """0 for the mean grey (ImageEnhance.Contrast)."""
    luma = tf.cast(grayscale(image), tf.float64)
    return _blend(tf.cast(tf.floor(tf.reduce_mean(luma) + 0.5), tf.float32), image, factor)


def sharpness(image, factor):
    """0 for a smoothed image (ImageEnhance.Sharpness)."""
    x = tf.cast(image, tf.float32)
    nine = 9 * tf.nn.avg_pool2d(x[tf.newaxis], 3, 1, "VALID")[0]
    smooth = tf.floor((nine + 4 * x[1:-1, 1:-1]) / 13 + 0.5)
    height, width, _ = tf.unstack(tf.shape(image))
    rows, columns = tf.range(height)[:, tf.newaxis], tf.range(width)
    inside = (rows > 0) & (rows < height - 1) & (columns > 0) & (columns < width - 1)
    smooth = tf.pad(smooth, ((1, 1), (1, 1), (0, 0)))  # Pillow leaves the border as it is
    return _blend(tf.where(inside[..., tf.newaxis], smooth, x), image, factor)


def shear_x(image, factor):
    """Moves each row left by `factor` times its number (Image.transform, nearest pixel)."""
    return _affine(image, (1.0, factor, 0.0, 0.0, 1.0, 0.0))


def shear_y(image, factor):
    """Moves each column up by `factor` times its number."""
    return _affine(image, (1.0, 0.0, 0.0, factor, 1.0, 0.0))


def translate_x(image, pixels):
    """Moves the image left."""
    return _affine(image, (1.0, 0.0, pixels, 0.0, 1.0, 0.0))


def translate_y(image, pixels):
    """Moves the image up."""
    return _affine(image, (1.0, 0.0, 0.0, 0.0, 1.0, pixels))


def rotate(image, degrees):
    """Turns the image counter-clockwise about its centre (Image.rotate, nearest pixel)."""
    angle = -degrees * 0.017453292519943295
    cos, sin = tf.cos(angle), tf.sin(angle)
    height, width, _ = tf.unstack(tf.cast(tf.shape(image), tf.float32))
    x, y = width / 2, height / 2
    return _affine(image, (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y))


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


def _look_up(image, table):
    """Replaces the values of each channel by its column of `table`, int32 (256, channels)."""
    table = tf.cast(tf.clip_by_value(table, 0, 255), tf.uint8)
    channels = image.shape[-1]
    index = tf.cast(image, tf.int32) * channels + tf.range(channels)
    return tf.gather(tf.reshape(table, (-1,)), index)


def _blend(start, image, factor):
    """start + factor * (image - start), cut off as Image.blend does."""
    blended = start + tf.cast(factor, tf.float32) * (tf.cast(image, tf.float32) - start)
    return tf.cast(tf.clip_by_value(blended, 0.0, 255.0), tf.uint8)


def _affine(image, matrix):
    """The pixel at (x, y) comes from (a x + b y + c, d x + e y + f); (a, b, c, d, e, f) is given.

    Pillow counts from the corners of pixels and TensorFlow from their centres, half a pixel on.
    """
    a, b, c, d, e, f = (tf.cast(number, tf.float32) for number in matrix)
    transform = tf.stack([a, b, c + (a + b - 1) / 2, d, e, f + (d + e - 1) / 2, 0.0, 0.0])
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=transform[tf.newaxis],
        output_shape=tf.shape(image)[:2],
        fill_value=float(GREY),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(moved[0], image.shape)
