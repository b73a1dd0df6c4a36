"""resize="pad" keeps the whole image and adds black borders."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.tiny import photograph

from vit_keras import Preprocessing


def test_pad_keeps_the_whole_image_between_black_borders():
    image = np.full((4, 8, 1), 200, "uint8")

    padded = Preprocessing(4, "pad", mean=(0.0,), std=(1.0,)).to_size(image)

    assert np.round(np.asarray(padded)[..., 0]).tolist() == [
        [0, 0, 0, 0],
        [200, 200, 200, 200],
        [200, 200, 200, 200],
        [0, 0, 0, 0],
    ]


def letterboxed(image, size):
    """PIL image -> float32 (height, width, channels) with black borders, by Pillow."""
    height, width = size
    scale = min(Fraction(width, image.width), Fraction(height, image.height))
    sides = [max(1, math.floor(scale * side + Fraction(1, 2))) for side in image.size]
    result = Image.new("RGB", (width, height))
    corner = ((width - sides[0]) // 2, (height - sides[1]) // 2)
    result.paste(image.resize(sides, Image.Resampling.BILINEAR), corner)
    return np.asarray(result, "float32")


@pytest.mark.parametrize("shape", [(300, 90), (90, 300), (200, 200), (37, 20), (20, 37), (500, 1)])
def test_pad_equals_pillow_eagerly_in_a_graph_and_in_a_pipeline(shape):
    spec = Preprocessing((32, 48), "pad")
    image = photograph(3, (200, 100, 50), size=shape)
    expected = letterboxed(image, (32, 48))
    pixels = np.asarray(image)

    eager = np.asarray(spec.to_size(pixels))
    signature = [tf.TensorSpec((None, None, 3), tf.uint8)]
    traced = tf.function(spec.to_size, input_signature=signature)(pixels)
    batch = tf.function(spec.to_size, input_signature=[tf.TensorSpec((None, None, None, 3))])
    dataset = tf.data.Dataset.from_generator(lambda: [pixels], output_signature=signature[0])
    (piped,) = dataset.map(spec.to_size).as_numpy_iterator()

    # Pillow rounds to whole numbers after each of its two passes.
    np.testing.assert_allclose(eager, expected, atol=1.5)
    assert ((eager == 0) == (expected == 0)).all()
    np.testing.assert_allclose(traced, eager, atol=1e-3)
    np.testing.assert_allclose(piped, eager, atol=1e-3)
    np.testing.assert_allclose(
        batch(np.stack([pixels, pixels]).astype("float32"))[1], eager, atol=1e-3
    )


def test_pad_and_a_crop_fraction_cut_the_middle_of_the_padded_image():
    image = photograph(3, (200, 100, 50), size=(300, 90))

    cropped = Preprocessing((32, 48), "pad", crop=0.8).to_size(np.asarray(image))

    np.testing.assert_allclose(cropped, letterboxed(image, (40, 60))[4:36, 6:54], atol=1.5)


def test_pad_of_one_row_of_pixels_takes_little_memory():
    # With borders before it is resized, it would have 100,000 x 100,000 pixels.
    padded = Preprocessing(8, "pad")(np.zeros((1, 100_000, 3), "uint8"))

    assert padded.shape == (8, 8, 3)
