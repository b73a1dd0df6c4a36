"""One training image -> the same image, randomly augmented: TensorFlow functions.

(image, seed) -> image. Images are uint8, or float32 of 0..255, (height, width, channels); a seed is
int32 (2,). Only the operations drawn for an image are computed: that makes these functions cheaper
than layers which compute all of them for a batch (benchmarks/augmentation.py).

To add one: write a function here, its row in IMAGE_AUGMENTATIONS below and a test in
tests/training/test_augment_images.py, and use it in a recipe.
"""

import functools

import tensorflow as tf

from training.augment import pillow

fold_in = tf.random.experimental.stateless_fold_in  # (seed, number) -> another seed


def flip_image(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors half of the images left to right; cheaper than `flip` of batches.py."""
    draw = tf.random.stateless_uniform((), seed)
    return tf.cond(draw < 0.5, lambda: tf.reverse(image, axis=[1]), lambda: image)


def rand_augment(
    image: tf.Tensor,
    seed: tf.Tensor,
    layers: int = 2,
    magnitude: float = 9.0,
    std: float = 0.0,
    probability: float = 1.0,
    increasing: bool = False,
) -> tf.Tensor:
    """Applies random operations, one after another (RandAugment, arXiv:1909.13719).

    They are drawn from the fourteen of the paper's table 6. The authors' code has sixteen and timm
    fifteen; both have inversion, and neither has the identity.

    Args:
        image: (height, width, channels), 0..255.
        seed: int32 (2,).
        layers: N, the number of operations.
        magnitude: M, their strength; 10 is 30 degrees, a shear of 0.3 or a shift by 45 % of the
            side.
        std: standard deviation of the magnitude, which is drawn for each operation and clipped to
            0..10 as in timm; 0 uses the magnitude itself, without clipping.
        probability: that an operation is applied; 0.5 in timm.
        increasing: whether a larger magnitude means more change of colour, contrast, brightness
            and sharpness, and of posterize and solarize, as in timm's "inc1". In the authors'
            code, magnitude 5 hardly changes colours.
    """
    image = to_uint8(image)
    numbers = tf.random.stateless_uniform((layers, 3), seed)
    levels = tf.random.stateless_normal((layers,), fold_in(seed, 1), magnitude, std)
    for layer in range(layers):
        number, sign, draw = tf.unstack(numbers[layer])
        index = tf.cast(number * len(OPERATIONS), tf.int32)
        index = tf.where(draw < probability, index, 0)  # the first is the identity
        level = (tf.clip_by_value(levels[layer], 0.0, 10.0) if std else levels[layer]) / 10
        signed = tf.where(sign < 0.5, level, -level)
        image = tf.ensure_shape(_operate(image, index, level, signed, increasing), image.shape)
    return image


# Table 6 of arXiv:1909.13719. Strengths are from the authors' code (tensorflow/tpu,
# autoaugment.py) and from timm's auto_augment.py.
SINGLE = ("identity", "autocontrast", "equalize", "solarize", "posterize")
MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*SINGLE, *pillow.STARTS, *MOVES)


def _operate(
    image: tf.Tensor, index: tf.Tensor, level: tf.Tensor, signed: tf.Tensor, increasing: bool
) -> tf.Tensor:
    """Applies operation `index` of OPERATIONS.

    Nodes of a graph cost time even in branches that are not taken: enhancements share one
    branch, and moves another.

    Args:
        image: uint8 (height, width, channels).
        index: int32 scalar.
        level: float32 scalar, 1 at magnitude 10.
        signed: the level with a random sign.
        increasing: as in `rand_augment`.
    """
    bits = tf.clip_by_value(tf.cast(4 * level, tf.int32), 0, 8)
    threshold = tf.minimum(tf.cast(256 * level, tf.int32), 256)
    if increasing:
        bits, threshold = tf.maximum(4 - bits, 0), 256 - threshold
    factor = 1 + 0.9 * signed if increasing else 0.1 + 1.8 * level

    def enhance() -> tf.Tensor:
        starts = [functools.partial(start, image) for start in pillow.STARTS.values()]
        return pillow.enhance(image, tf.switch_case(index - len(SINGLE), starts), factor)

    def move() -> tf.Tensor:
        return pillow.affine(image, _matrices(image, signed)[index - len(OPERATIONS)])

    branches = [
        lambda: image,
        lambda: pillow.autocontrast(image),
        lambda: pillow.equalize(image),
        lambda: pillow.solarize(image, threshold),
        lambda: pillow.posterize(image, bits),
        enhance,
        move,
    ]
    enhances = tf.cast(index >= len(SINGLE), tf.int32)
    moves = tf.cast(index >= len(OPERATIONS) - len(MOVES), tf.int32)
    return tf.switch_case(tf.minimum(index, len(SINGLE) - 1) + enhances + moves, branches)


def _matrices(image: tf.Tensor, signed: tf.Tensor) -> tf.Tensor:
    """Returns the matrices of MOVES, float64 (5, 6)."""
    height, width, _ = tf.unstack(tf.cast(tf.shape(image), tf.float64))
    signed = tf.cast(signed, tf.float64)
    shear, one, zero = 0.3 * signed, tf.ones((), tf.float64), tf.zeros((), tf.float64)
    across, down = tf.round(0.45 * signed * width), tf.round(0.45 * signed * height)
    return tf.stack(
        [
            pillow.rotation(height, width, 30 * signed),
            tf.stack([one, shear, zero, zero, one, zero]),
            tf.stack([one, zero, zero, shear, one, zero]),
            tf.stack([one, zero, across, zero, one, zero]),
            tf.stack([one, zero, zero, zero, one, down]),
        ]
    )


def three_augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Makes the image grey, solarizes it at 128, or blurs it by 0.1 to 2 pillow.

    These are the three augmentations of DeiT III (arXiv:2204.07118, section 3).
    """
    image = to_uint8(image)
    number, sigma = tf.unstack(tf.random.stateless_uniform((2,), seed))
    branches = [
        lambda: pillow.grayscale(image),
        lambda: pillow.solarize(image),
        lambda: pillow.gaussian_blur(image, 0.1 + 1.9 * sigma),
    ]
    augmented = tf.switch_case(tf.cast(number * len(branches), tf.int32), branches)
    return tf.ensure_shape(augmented, image.shape)


def colour_jitter(image: tf.Tensor, seed: tf.Tensor, strength: float = 0.3) -> tf.Tensor:
    """Changes brightness, contrast and saturation by factors of 1 ± strength, in random order."""
    factors = tf.random.stateless_uniform((3,), seed, 1 - strength, 1 + strength)
    order = tf.argsort(tf.random.stateless_uniform((3,), fold_in(seed, 1)))
    image = to_uint8(image)
    for turn in range(3):
        starts = [
            functools.partial(pillow.STARTS[name], image)
            for name in ("brightness", "contrast", "color")
        ]
        start = tf.switch_case(order[turn], starts)
        enhanced = pillow.enhance(image, start, factors[order[turn]])
        image = tf.ensure_shape(enhanced, image.shape)
    return image


def to_uint8(image: tf.Tensor) -> tf.Tensor:
    """Rounds an image of 0..255, if it is not uint8."""
    if image.dtype == tf.uint8:
        return image
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0) + 0.5, tf.uint8)


IMAGE_AUGMENTATIONS = {
    function.__name__: function
    for function in (flip_image, rand_augment, three_augment, colour_jitter)
}
