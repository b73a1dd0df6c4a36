"""Operations on pixels are equal to Pillow's, eagerly and in a graph."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from training.augment import pillow


def photo(mode, size=(57, 40)):
    """A smooth, noisy picture with a flat patch; size is (width, height)."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[: size[1], : size[0]]
    channels = [60 + 50 * np.sin(x / 7 + k) + y * (1 + k / 3) for k in range(3)]
    picture = np.stack(channels, axis=-1) + random.normal(0, 12, (*y.shape, 3))
    picture[5:12, 6:20] = 17
    return Image.fromarray(picture.clip(0, 230).astype("uint8")).convert(mode)


def pillow_affine(*matrix):
    def transform(image):
        return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=grey(image))

    return transform


def grey(image):
    return 128 if image.mode == "L" else (128, 128, 128)


def call(module, name, number):
    return lambda image: getattr(module, name)(image, number)


def enhance(name, factor):
    start = pillow.STARTS[name]
    return lambda image: pillow.enhance(image, start(image), factor)


def pillow_enhance(name, factor):
    return lambda image: getattr(ImageEnhance, name.capitalize())(image).enhance(factor)


def move(*matrix):
    return lambda image: pillow.affine(image, tf.constant(matrix, tf.float64))


def rotate(degrees):
    def operation(image):
        height, width = map(float, image.shape[:2])
        return pillow.affine(
            image, pillow.rotation(height, width, tf.constant(degrees, tf.float64))
        )

    return operation


def pillow_rotate(degrees):
    return lambda image: image.rotate(degrees, fillcolor=grey(image))


MATRICES = [
    *((1, factor, 0, 0, 1, 0) for factor in (-0.27, 0.3)),
    *((1, 0, 0, factor, 1, 0) for factor in (-0.27, 0.3)),
    *((1, 0, distance, 0, 1, 0) for distance in (-9, 0, 21)),
    *((1, 0, 0, 0, 1, distance) for distance in (-9, 21)),
]
CASES: dict[str, tuple[Callable, Callable]] = {  # name: (our function, Pillow's)
    "autocontrast": (pillow.autocontrast, ImageOps.autocontrast),
    "equalize": (pillow.equalize, ImageOps.equalize),
    "grayscale": (pillow.grayscale, lambda image: image.convert("L").convert(image.mode)),
    "smooth": (pillow.smooth, lambda image: image.filter(ImageFilter.SMOOTH)),
}
for name, numbers in {"solarize": (0, 110, 256), "posterize": (1, 4, 8)}.items():
    for number in numbers:
        CASES[f"{name} {number}"] = call(pillow, name, number), call(ImageOps, name, number)
for name in pillow.STARTS:
    for factor in (0.0, 0.1, 0.73, 1.0, 1.9):
        CASES[f"{name} {factor}"] = enhance(name, factor), pillow_enhance(name, factor)
for matrix in MATRICES:
    CASES[f"move {matrix}"] = move(*matrix), pillow_affine(*matrix)
for degrees in (-27.0, 12.5, 30.0):
    CASES[f"rotate {degrees}"] = rotate(degrees), pillow_rotate(degrees)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", CASES)
def test_operation_equals_pillows(name, mode):
    our_function, pillow_function = CASES[name]
    picture = photo(mode)
    image = np.asarray(picture).reshape(40, 57, -1)
    expected = np.asarray(pillow_function(picture)).reshape(image.shape)

    result = our_function(tf.constant(image))

    assert result.dtype == tf.uint8
    np.testing.assert_array_equal(result, expected)


def test_histogram_operations_equal_pillows_on_images_of_one_or_two_values():
    for values in ([9, 9], [3, 200], [0, 255]):
        image = np.array(values, "uint8").repeat(20 * 3).reshape(8, 5, 3)
        picture = Image.fromarray(image)
        for name in ("autocontrast", "equalize"):
            our_function, pillow_function = CASES[name]
            expected = np.asarray(pillow_function(picture))
            np.testing.assert_array_equal(our_function(tf.constant(image)), expected)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.0])
def test_gaussian_blur_is_a_convolution_with_a_gaussian(sigma):
    image = np.asarray(photo("RGB"))

    result = np.asarray(pillow.gaussian_blur(tf.constant(image), sigma), float)

    expected = scipy.ndimage.gaussian_filter(
        image.astype(float), (sigma, sigma, 0), mode="nearest", truncate=6 / sigma
    )
    assert np.abs(result - expected).max() <= 0.5 + 1e-3
    # Pillow, which DeiT III uses, approximates the Gaussian by three boxes.
    boxes = np.asarray(photo("RGB").filter(ImageFilter.GaussianBlur(sigma)), float)
    assert np.abs(result - boxes)[8:-8, 8:-8].max() <= 5


def test_graph_equals_eager_execution():
    image = tf.constant(np.asarray(photo("RGB")))

    @tf.function
    def graph(image):
        return [function(image) for function, _ in CASES.values()]

    for result, (function, _) in zip(graph(image), CASES.values(), strict=True):
        np.testing.assert_array_equal(result, function(image))
