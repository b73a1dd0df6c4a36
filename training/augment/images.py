"""One training image -> the same image, changed as a seed decides: plain TensorFlow functions.

(image, seed) -> image, uint8 or float32 of 0..255, (height, width, channels); the seed is two int32
numbers. Each image is changed by what is drawn for it and nothing else: that is what makes these
cheaper than layers which work on batches (benchmarks/augmentation.py).

Adding one: a function here, its row in IMAGE_AUGMENTATIONS below, its test in
tests/training/test_augment.py, and its place in a recipe.
"""

import functools

import tensorflow as tf

from training.augment import pillow as pixels

fold_in = tf.random.experimental.stateless_fold_in  # (seed, number) -> another seed


def flip_image(image, seed):
    """Mirrors half of the images left to right, for less than `augment.flip` does it in batches."""
    draw = tf.random.stateless_uniform((), seed)
    return tf.cond(draw < 0.5, lambda: tf.reverse(image, axis=[1]), lambda: image)


def rand_augment(image, seed, layers=2, magnitude=9.0, std=0.0, probability=1.0, increasing=False):
    """Changes the image by operations drawn from fourteen (RandAugment, arXiv:1909.13719).

    Each image is changed by the operations that are drawn for it and no others. The fourteen are
    the paper's table 6; the authors' code has sixteen and timm fifteen, among them inverting, and
    not the identity.

    Args:
        layers: N, how many operations in turn.
        magnitude: M, their strength, on a scale whose 10 means 30 degrees, a shear of 0.3 or a
            move by 45 % of the side.
        std: of the magnitude, drawn anew for each operation and cut to 0..10 as in timm; 0 for the
            magnitude itself, however large.
        probability: of each operation to be carried out, 0.5 in timm.
        increasing: whether a larger magnitude changes colours, sharpness, posterize and solarize
            more, as in timm's "inc1"; in the authors' code 5 is hardly a change of colours.
    """
    image = to_uint8(image)
    numbers = tf.random.stateless_uniform((layers, 3), seed)
    levels = tf.random.stateless_normal((layers,), fold_in(seed, 1), magnitude, std)
    for layer in range(layers):
        number, sign, draw = tf.unstack(numbers[layer])
        drawn = tf.cast(number * len(OPERATIONS), tf.int32)
        chosen = tf.where(draw < probability, drawn, 0)  # the first is the identity
        level = (tf.clip_by_value(levels[layer], 0.0, 10.0) if std else levels[layer]) / 10
        signed = tf.where(sign < 0.5, level, -level)
        image = tf.ensure_shape(_operate(image, chosen, level, signed, increasing), image.shape)
    return image


# Table 6 of arXiv:1909.13719. Strengths are those of the authors' code (tensorflow/tpu,
# autoaugment.py) and of timm's auto_augment.py.
SINGLE = ("identity", "autocontrast", "equalize", "solarize", "posterize")
MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*SINGLE, *pixels.STARTS, *MOVES)


def _operate(image, number, level, signed, increasing):
    """Carries out operation `number` of OPERATIONS.

    A graph costs time for each of its nodes, also those of branches that are not taken: kindred
    operations share one branch.

    Args:
        level: strength, 1 at magnitude 10; signed: the same with a random sign.
    """
    bits = tf.clip_by_value(tf.cast(4 * level, tf.int32), 0, 8)
    threshold = tf.minimum(tf.cast(256 * level, tf.int32), 256)
    if increasing:
        bits, threshold = tf.maximum(4 - bits, 0), 256 - threshold
    factor = 1 + 0.9 * signed if increasing else 0.1 + 1.8 * level

    def enhance():
        starts = [functools.partial(start, image) for start in pixels.STARTS.values()]
        start = tf.switch_case(number - len(SINGLE), starts)
        return pixels.enhance(image, start, factor)

    def move():
        return pixels.affine(image, _matrices(image, signed)[number - len(OPERATIONS)])

    branches = [
        lambda: image,
        lambda: pixels.autocontrast(image),
        lambda: pixels.equalize(image),
        lambda: pixels.solarize(image, threshold),
        lambda: pixels.posterize(image, bits),
        enhance,
        move,
    ]
    enhances = tf.cast(number >= len(SINGLE), tf.int32)
    moves = tf.cast(number >= len(OPERATIONS) - len(MOVES), tf.int32)
    return tf.switch_case(tf.minimum(number, len(SINGLE) - 1) + enhances + moves, branches)


def _matrices(image, signed):
    """(5, 6), the matrices of MOVES"""
    height, width, _ = tf.unstack(tf.cast(tf.shape(image), tf.float64))
    signed = tf.cast(signed, tf.float64)
    shear, one, no = 0.3 * signed, tf.ones((), tf.float64), tf.zeros((), tf.float64)
    across, down = tf.round(0.45 * signed * width), tf.round(0.45 * signed * height)
    return tf.stack(
        [
            pixels.rotation(height, width, 30 * signed),
            tf.stack([one, shear, no, no, one, no]),
            tf.stack([one, no, no, shear, one, no]),
            tf.stack([one, no, across, no, one, no]),
            tf.stack([one, no, no, no, one, down]),
        ]
    )


def three_augment(image, seed):
    """One of grey, solarised above 128, and blurred by 0.1 to 2 pixels (DeiT III, section 3)."""
    image = to_uint8(image)
    number, sigma = tf.unstack(tf.random.stateless_uniform((2,), seed))
    branches = [
        lambda: pixels.grayscale(image),
        lambda: pixels.solarize(image),
        lambda: pixels.gaussian_blur(image, 0.1 + 1.9 * sigma),
    ]
    image_augmented = tf.switch_case(tf.cast(number * len(branches), tf.int32), branches)
    return tf.ensure_shape(image_augmented, image.shape)


def colour_jitter(image, seed, strength=0.3):
    """Changes brightness, contrast and saturation by factors of 1 +- strength, in random order."""
    factors = tf.random.stateless_uniform((3,), seed, 1 - strength, 1 + strength)
    order = tf.argsort(tf.random.stateless_uniform((3,), fold_in(seed, 1)))
    image = to_uint8(image)
    for turn in range(3):
        starts = [
            functools.partial(pixels.STARTS[name], image)
            for name in ("brightness", "contrast", "color")
        ]
        start = tf.switch_case(order[turn], starts)
        enhanced = pixels.enhance(image, start, factors[order[turn]])
        image = tf.ensure_shape(enhanced, image.shape)
    return image


def to_uint8(image):
    """0..255, rounded if it is not uint8"""
    if image.dtype == tf.uint8:
        return image
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0) + 0.5, tf.uint8)


IMAGE_AUGMENTATIONS = {
    function.__name__: function
    for function in (flip_image, rand_augment, three_augment, colour_jitter)
}
