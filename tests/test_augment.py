"""Augmentations do what they say, eagerly and in a graph, as the seed decides."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from training import augment
from vit_keras import InputError

SEED = (1, 2)


def batch(count=64):
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (count, 8, 10, 3)).astype("float32")
    return images, np.eye(4, dtype="float32")[random.integers(0, 4, count)]


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_batches_keep_their_shapes_and_depend_on_the_seed_alone(name):
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
    kept = (flipped == images).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 16 < mirrored.sum() < 48


def test_shift_moves_whole_images_by_at_most_so_many_pixels():
    images, labels = batch(count=200)

    shifted = np.asarray(augment.shift(images, labels, SEED, pixels=2)[0])

    seen = set()
    for before, after in zip(images, shifted, strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)), mode="edge")
        offsets = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if (padded[y : y + 8, x : x + 10] == after).all()
        ]
        assert len(offsets) == 1
        seen.add(offsets[0])
    assert len(seen) == 25


def test_cutmix_mixes_labels_by_the_share_of_pixels():
    # Image i holds the number i in every pixel, so that each pixel tells where it comes from.
    count = 100
    images = np.broadcast_to(
        np.arange(count, dtype="float32")[:, None, None, None], (100, 8, 10, 1)
    )
    labels = np.eye(count, dtype="float32")

    mixed, mixed_labels = map(np.asarray, augment.cutmix(images, labels, SEED, probability=0.5))

    untouched = 0
    for index in range(count):
        other = count - 1 - index
        foreign = mixed[index, :, :, 0] == other
        assert (mixed[index, ~foreign] == index).all()
        rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
        assert foreign.sum() == len(rows) * len(columns)  # one box
        assert mixed_labels[index, other] == pytest.approx(foreign.mean(), abs=1e-6)
        assert mixed_labels[index, index] == pytest.approx(1 - foreign.mean(), abs=1e-6)
        untouched += not foreign.any()
    assert 35 < untouched < 65


def test_random_resized_crop_cuts_boxes_of_the_given_area():
    y, x = np.mgrid[:100, :100].astype("uint8")
    image = np.stack([y, x, 0 * x], axis=-1)

    areas = []
    for seed in range(50):
        crop = np.asarray(augment.random_resized_crop(image, (10, 10), (0, seed), area=(0.25, 0.5)))
        assert crop.shape == (10, 10, 3)
        height, width = np.ptp(crop[..., 0]) / 0.9, np.ptp(crop[..., 1]) / 0.9
        areas.append(height * width / 10_000)
    assert 0.2 < min(areas) < 0.33
    assert 0.42 < max(areas) < 0.55


def test_functions_have_names_for_reports_and_the_command_line():
    assert augment.describe(augment.flip) == "flip"
    assert augment.describe(partial(augment.shift, pixels=2)) == "shift(pixels=2)"
    assert augment.by_name("flip", augment.AUGMENTATIONS) is augment.flip
    with pytest.raises(InputError, match="'flipp'; did you mean flip"):
        augment.by_name("flipp", augment.AUGMENTATIONS)
    with pytest.raises(InputError, match="'flip'; known are: random_resized_crop"):
        augment.by_name("flip", augment.CROPS)
