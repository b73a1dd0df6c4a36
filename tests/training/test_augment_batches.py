"""Crops and batch augmentations, eagerly and in a graph."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from training.augment import batches as augment
from vit_keras import InputError

SEED = (1, 2)


def batch(count=64):
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (count, 8, 10, 3)).astype("float32")
    return images, np.eye(4, dtype="float32")[random.integers(0, 4, count)]


def numbered(count):
    """Images whose pixels all have the image's number, so that a pixel shows its source."""
    numbers = np.arange(count, dtype="float32")[:, None, None, None]
    return np.broadcast_to(numbers, (count, 8, 10, 1)), np.eye(count, dtype="float32")


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_batch_augmentations_keep_shapes_and_depend_only_on_the_seed(name):
    function = augment.AUGMENTATIONS[name]
    images, labels = batch()

    eager, eager_labels = function(images, labels, SEED)
    again, _ = tf.function(function)(images, labels, tf.constant(SEED))
    other, _ = function(images, labels, (1, 3))

    assert eager.shape == images.shape
    np.testing.assert_allclose(tf.reduce_sum(eager_labels, 1), np.ones(64), atol=1e-6)
    np.testing.assert_allclose(eager, again, atol=1e-4)
    assert np.abs(np.asarray(eager) - np.asarray(other)).max() > 1
    assert np.abs(np.asarray(eager) - images).max() > 1


def test_flip_mirrors_about_half_of_the_images():
    images, labels = batch()

    flipped = np.asarray(augment.flip(images, labels, SEED)[0])

    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    unchanged = (flipped == images).all(axis=(1, 2, 3))
    assert (mirrored ^ unchanged).all()
    assert 16 < mirrored.sum() < 48


def test_shift_moves_whole_images_by_at_most_the_given_pixels():
    images, labels = batch(count=200)

    shifted = np.asarray(augment.shift(images, labels, SEED, pixels=2)[0])

    all_offsets = set()
    for before, after in zip(images, shifted, strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)), mode="edge")
        offsets = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if (padded[y : y + 8, x : x + 10] == after).all()
        ]
        assert len(offsets) == 1
        all_offsets.add(offsets[0])
    assert len(all_offsets) == 25


def test_cutmix_mixes_labels_by_the_fraction_of_pixels():
    images, labels = numbered(100)

    mixed, mixed_labels = map(np.asarray, augment.cutmix(images, labels, SEED, probability=0.5))

    untouched = 0
    for index in range(100):
        other = np.argmax(mixed_labels[index] * (1 - labels[index]))
        foreign = mixed[index, :, :, 0] == other
        assert (mixed[index, ~foreign] == index).all()
        rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
        assert foreign.sum() == len(rows) * len(columns)  # one box
        if foreign.any():
            assert mixed_labels[index, other] == pytest.approx(foreign.mean(), abs=1e-6)
        assert mixed_labels[index, index] == pytest.approx(1 - foreign.mean(), abs=1e-6)
        untouched += not foreign.any()
    assert 35 < untouched < 65


def test_mixup_averages_images_and_labels_with_the_same_weights():
    images, labels = numbered(400)

    mixed, mixed_labels = map(np.asarray, augment.mixup(images, labels, SEED, alpha=0.5))

    weights = mixed_labels.diagonal()
    expected = mixed_labels @ np.arange(400)
    expected = np.broadcast_to(expected[:, None, None, None], mixed.shape)
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(mixed_labels.sum(axis=1), 1, atol=1e-6)
    assert (np.count_nonzero(mixed_labels, axis=1) <= 2).all()
    # The Beta distribution of 0.5 and 0.5: its standard deviation is sqrt(1/8).
    assert weights.mean() == pytest.approx(0.5, abs=0.06)
    assert weights.std() == pytest.approx(0.354, abs=0.03)


def test_mixup_or_cutmix_draws_one_of_both_for_a_whole_block():
    images, labels = numbered(64)
    kinds = []
    for step in range(30):
        mixed, _ = augment.mixup_or_cutmix(images, labels, (0, step), cut=0.3)
        from_one = np.asarray(mixed) % 1 == 0
        kinds.append("cut" if from_one.all() else "mix")
        assert from_one.mean() < 0.5 or from_one.all()
    assert 3 < kinds.count("cut") < 16


@pytest.mark.parametrize("function", [augment.cutmix, augment.mixup])
def test_copies_of_an_image_have_different_partners(function):
    images, labels = numbered(99)

    _, mixed = function(images, labels, SEED, probability=1.0)

    mixed = np.asarray(mixed) * (1 - labels)
    partners = np.where(mixed.any(axis=1), mixed.argmax(axis=1) // 3, -np.arange(99) - 1)
    different = [len(set(copies)) for copies in partners.reshape(33, 3)]  # 3 neighbours each
    assert np.mean(different) > 2.8
    assert np.count_nonzero(mixed, axis=1).max() == 1
    assert np.count_nonzero(mixed, axis=0).max() == 1  # each is the partner of one


def test_random_erasing_fills_boxes_of_the_given_area_with_noise():
    images = np.full((300, 20, 30, 1), -1.0, "float32")

    erased, _ = augment.random_erasing(images, None, SEED, probability=0.5, area=(0.1, 0.2))

    areas = []
    for image in np.asarray(erased)[..., 0]:
        erased_pixels = image != -1
        if erased_pixels.any():
            rows, columns = (
                np.flatnonzero(erased_pixels.any(1)),
                np.flatnonzero(erased_pixels.any(0)),
            )
            assert erased_pixels.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # one box
            areas.append(erased_pixels.mean())
    assert 0.4 < len(areas) / 300 < 0.6
    assert min(areas) > 0.04  # long sides are cut to the image's
    assert np.mean(areas) == pytest.approx(0.15, abs=0.02)
    noise = np.asarray(erased)[np.asarray(erased) != -1]
    assert noise.mean() == pytest.approx(127.5, abs=3)


def test_resized_crop_of_border_is_a_shifted_image():
    image = np.arange(1, 65, dtype="uint8").reshape(8, 8, 1)
    padded = np.pad(image[..., 0], 2)
    boxes = {padded[y : y + 8, x : x + 8].tobytes() for y in range(5) for x in range(5)}

    crops = [
        np.asarray(augment.resized_crop_of_border(image, (8, 8), (0, seed), pixels=2))
        for seed in range(100)
    ]

    different = {crop[..., 0].astype("uint8").tobytes() for crop in crops}
    assert different <= boxes
    assert len(different) > 20


def test_random_resized_crop_cuts_boxes_of_the_given_area_and_ratio():
    y, x = np.mgrid[:100, :100].astype("uint8")
    image = np.stack([y, x, 0 * x], axis=-1)

    areas, ratios = [], []
    for seed in range(50):
        crop = np.asarray(augment.random_resized_crop(image, (10, 10), (0, seed), area=(0.25, 0.5)))
        assert crop.shape == (10, 10, 3)
        height, width = np.ptp(crop[..., 0]) / 0.9, np.ptp(crop[..., 1]) / 0.9
        areas.append(height * width / 10_000)
        ratios.append(width / height)
    assert 0.2 < min(areas) < 0.33
    assert 0.42 < max(areas) < 0.55
    assert 0.72 < min(ratios) < 0.85
    assert 1.2 < max(ratios) < 1.38


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [20, 90])
def test_random_resized_crop_resizes_like_pillow(interpolation, side):
    image = np.random.default_rng(0).integers(90, 160, (48, 48, 3)).astype("uint8")
    whole = {"area": (0.999, 1.0), "ratio": (1.0, 1.0)}

    crop = augment.random_resized_crop(
        image, (side, side), SEED, **whole, interpolation=interpolation
    )

    method = getattr(Image.Resampling, interpolation.upper())
    expected = np.asarray(Image.fromarray(image).resize((side, side), method), float)
    # Pillow rounds to whole numbers after each of two passes.
    np.testing.assert_allclose(crop, expected, atol=1.6)


def test_augmentations_are_written_and_read_as_text():
    assert augment.describe(augment.flip) == "flip"
    assert augment.describe(partial(augment.shift, pixels=2)) == "shift(pixels=2)"
    assert augment.by_name("flip", augment.AUGMENTATIONS) is augment.flip
    shift = augment.by_name("shift(pixels=5)", augment.AUGMENTATIONS)
    assert isinstance(shift, partial)
    assert (shift.func, shift.keywords) == (augment.shift, {"pixels": 5})
    with pytest.raises(InputError, match="shift has no argument 'pixel'; did you mean pixels"):
        augment.by_name("shift(pixel=5)", augment.AUGMENTATIONS)
    with pytest.raises(InputError, match=r"no such augmentation: 'shift\(5\)'"):
        augment.by_name("shift(5)", augment.AUGMENTATIONS)
    with pytest.raises(InputError, match="'flipp'; did you mean flip"):
        augment.by_name("flipp", augment.AUGMENTATIONS)
    with pytest.raises(InputError, match="no such augmentation: 'flip'"):
        augment.by_name("flip", augment.CROPS)
