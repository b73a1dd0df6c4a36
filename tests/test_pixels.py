"""Each operation on pixels gives what Pillow gives, eagerly and in a graph."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from training import pixels


def photo(mode, size=(57, 40)):
    """A smooth, noisy picture with a flat patch, width x height"""
    random = np.random.default_rng(3)
    y, x = np.mgrid[: size[1], : size[0]]
    channels = [60 + 50 * np.sin(x / 7 + k) + y * (1 + k / 3) for k in range(3)]
    picture = np.stack(channels, axis=-1) + random.normal(0, 12, (*y.shape, 3))
    picture[5:12, 6:20] = 17
    return Image.fromarray(picture.clip(0, 230).astype("uint8")).convert(mode)


def affine(*matrix):
    def transform(image):
        return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=grey(image))

    return transform


def grey(image):
    return 128 if image.mode == "L" else (128, 128, 128)


# name, argument of ours, the same by Pillow, pixels that may differ: fractions of moved images,
# whose nearest pixel hangs on the last digit (Pillow counts in 1/65536 of a pixel).
CASES = [
    ("autocontrast", (), ImageOps.autocontrast, 0),
    ("equalize", (), ImageOps.equalize, 0),
    ("solarize", (0,), lambda i: ImageOps.solarize(i, 0), 0),
    ("solarize", (110,), lambda i: ImageOps.solarize(i, 110), 0),
    ("solarize", (256,), lambda i: ImageOps.solarize(i, 256), 0),
    *(("posterize", (b,), lambda i, b=b: ImageOps.posterize(i, b), 0) for b in (1, 4, 8)),
    ("grayscale", (), lambda i: i.convert("L").convert(i.mode), 0),
    *(
        (kind.lower(), (f,), lambda i, f=f, k=kind: getattr(ImageEnhance, k)(i).enhance(f), 0)
        for kind in ("Color", "Brightness", "Contrast", "Sharpness")
        for f in (0.0, 0.1, 0.73, 1.0, 1.9)
    ),
    *(("shear_x", (f,), affine(1, f, 0, 0, 1, 0), 0.01) for f in (-0.27, 0.3)),
    *(("shear_y", (f,), affine(1, 0, 0, f, 1, 0), 0.01) for f in (-0.27, 0.3)),
    *(("translate_x", (p,), affine(1, 0, p, 0, 1, 0), 0) for p in (-9, 0, 21)),
    *(("translate_y", (p,), affine(1, 0, 0, 0, 1, p), 0) for p in (-9, 21)),
    *(("rotate", (d,), lambda i, d=d: i.rotate(d, fillcolor=grey(i)), 0.01)
      for d in (-27.0, 12.5, 30.0)),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("name", "arguments", "theirs", "differing"),
    CASES,
    ids=[f"{name}{arguments}" for name, arguments, _, _ in CASES],
)
def test_operation_is_pillows(name, arguments, theirs, differing, mode):
    picture = photo(mode)
    image = np.asarray(picture).reshape(40, 57, -1)
    expected = np.asarray(theirs(picture)).reshape(image.shape)

    found = getattr(pixels, name)(tf.constant(image), *arguments)

    assert found.dtype == tf.uint8
    assert np.mean((np.asarray(found) != expected).any(-1)) <= differing


def test_flat_and_two_valued_images_are_pillows():
    for values in ([9, 9], [3, 200], [0, 255]):
        image = np.array(values, "uint8").repeat(20 * 3).reshape(8, 5, 3)
        picture = Image.fromarray(image)
        for ours, theirs in ((pixels.autocontrast, ImageOps.autocontrast),
                             (pixels.equalize, ImageOps.equalize)):  # fmt: skip
            np.testing.assert_array_equal(ours(tf.constant(image)), np.asarray(theirs(picture)))


@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.0])
def test_blur_is_a_gaussian_convolution(sigma):
    image = np.asarray(photo("RGB"))

    found = np.asarray(pixels.gaussian_blur(tf.constant(image), sigma), float)

    expected = scipy.ndimage.gaussian_filter(
        image.astype(float), (sigma, sigma, 0), mode="nearest", truncate=6 / sigma
    )
    assert np.abs(found - expected).max() <= 0.5 + 1e-3
    # Pillow blurs with three boxes in place of the Gaussian that DeiT III asks it for.
    pillow = np.asarray(photo("RGB").filter(ImageFilter.GaussianBlur(sigma)), float)
    assert np.abs(found - pillow)[8:-8, 8:-8].max() <= 5


def test_a_graph_gives_the_same():
    image = tf.constant(np.asarray(photo("RGB")))
    for name, arguments, _, _ in CASES:
        function = getattr(pixels, name)
        graph = tf.function(lambda x, f=function, a=arguments: f(x, *a))(image)
        np.testing.assert_array_equal(graph, function(image, *arguments))
