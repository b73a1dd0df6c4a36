"""Augmentations of single images, eagerly and in a graph."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from support.tiny import photograph

from training.augment import images as augment_images
from training.augment import pillow


@pytest.mark.parametrize("function", augment_images.IMAGE_AUGMENTATIONS.values())
@pytest.mark.parametrize("channels", [1, 3])
def test_image_augmentations_keep_shape_and_type_and_depend_only_on_the_seed(function, channels):
    image = np.random.default_rng(0).integers(0, 256, (12, 9, channels)).astype("uint8")
    graph = tf.function(function)

    eager = [np.asarray(function(tf.constant(image), (0, seed))) for seed in range(12)]
    again = [np.asarray(graph(image, tf.constant([0, seed]))) for seed in range(12)]

    assert all(x.shape == image.shape and x.dtype == image.dtype for x in eager)
    # A compiler may fuse a multiplication and an addition, which changes a value by one.
    difference = np.abs(np.array(eager, int) - np.array(again, int))
    assert difference.max() <= 1
    assert difference.mean() < 0.01
    assert len({x.tobytes() for x in eager}) > (1 if function is augment_images.flip_image else 5)


def test_rand_augment_draws_operations_equally_often_and_strengths_around_the_magnitude(
    monkeypatch,
):
    calls = []

    def record(image, index, level, signed, increasing):
        calls.append((int(index), float(level), float(signed), increasing))
        return image

    monkeypatch.setattr(augment_images, "_operate", record)
    image = tf.zeros((4, 4, 3), tf.uint8)
    for seed in range(200):
        augment_images.rand_augment(image, (0, seed), layers=2, magnitude=9, increasing=True)

    counts = np.bincount([index for index, _, _, _ in calls], minlength=14)
    assert len(counts) == len(augment_images.OPERATIONS) == 14
    assert counts.min() > 12
    assert {round(level, 3) for _, level, _, _ in calls} == {0.9}
    assert {round(signed, 3) for _, _, signed, _ in calls} == {0.9, -0.9}
    assert all(increasing for _, _, _, increasing in calls)

    calls.clear()
    for seed in range(200):
        augment_images.rand_augment(image, (0, seed), layers=1, std=0.5, probability=0.5)
    assert 0.4 < np.mean([index == 0 for index, _, _, _ in calls]) < 0.65
    levels = np.array([level for _, level, _, _ in calls]) * 10
    assert levels.mean() == pytest.approx(9, abs=0.1)
    assert levels.std() == pytest.approx(0.5, abs=0.1)


def by_pillow(name, picture, increasing):
    """Pillow's result at magnitude 9 and positive sign, in the authors' code or timm's "inc1"."""
    grey, (width, height) = (128,) * 3, picture.size
    factor = 1.81 if increasing else 1.72
    matrices = {
        "shear_x": (1, 0.27, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.27, 1, 0),
        "translate_x": (1, 0, round(0.405 * width), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, round(0.405 * height)),
    }
    if name in matrices:
        kind = Image.Transform.AFFINE
        return picture.transform(picture.size, kind, matrices[name], fillcolor=grey)
    if name in pillow.STARTS:
        return getattr(ImageEnhance, name.capitalize())(picture).enhance(factor)
    return {
        "identity": lambda: picture,
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
        "solarize": lambda: ImageOps.solarize(picture, 26 if increasing else 230),
        "posterize": lambda: ImageOps.posterize(picture, 1 if increasing else 3),
        "rotate": lambda: picture.rotate(27, fillcolor=grey),
    }[name]()


@pytest.mark.parametrize("name", augment_images.OPERATIONS)
@pytest.mark.parametrize("increasing", [False, True])
def test_operations_at_magnitude_9_have_the_published_strengths(name, increasing):
    picture = photograph(0, (200, 90, 30), size=(30, 40))
    index, level = tf.constant(augment_images.OPERATIONS.index(name)), tf.constant(0.9)

    result = augment_images._operate(
        tf.constant(np.asarray(picture)), index, level, level, increasing
    )

    expected = np.asarray(by_pillow(name, picture, increasing)).astype(int)
    difference = np.abs(np.asarray(result).astype(int) - expected)
    # Enhancements compute in float32, in which 0.9 is another number.
    assert difference.max() <= (1 if name in pillow.STARTS else 0)


def test_three_augment_applies_one_of_three_operations():
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype("uint8"))
    grey, solarized = pillow.grayscale(image).numpy(), pillow.solarize(image).numpy()

    results = [augment_images.three_augment(image, (0, seed)).numpy() for seed in range(60)]

    greys = sum((result == grey).all() for result in results)
    solarised = sum((result == solarized).all() for result in results)
    assert 10 < greys < 32
    assert 10 < solarised < 32
    assert 10 < 60 - greys - solarised < 32


def test_colour_jitter_changes_brightness_contrast_and_saturation_within_bounds():
    image = tf.constant(np.random.default_rng(0).integers(60, 150, (64, 64, 3)).astype("uint8"))

    def measure(image):
        """Brightness, contrast relative to it, and saturation relative to both."""
        image = np.asarray(image, float)
        grey = image @ [0.299, 0.587, 0.114]  # ITU-R 601-2, as Pillow's
        contrast = grey.std() / grey.mean()
        colour = np.abs(image - grey[..., None]).mean() / grey.mean()
        return np.array([grey.mean(), contrast, colour / contrast])

    jittered = [augment_images.colour_jitter(image, (0, seed), 0.3) for seed in range(60)]

    # Each ratio is one of the three factors, except for rounding.
    for ratios in np.transpose([measure(other) / measure(image) for other in jittered]):
        assert 0.69 < ratios.min() < 0.78
        assert 1.2 < ratios.max() < 1.31
