"""Augmentations do what they say, eagerly and in a graph, as the seed decides."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from support.tiny import photograph

from training.augment import batches as augment
from training.augment import images as augment_images
from training.augment import pillow as pixels
from vit_keras import InputError

SEED = (1, 2)


def batch(count=64):
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (count, 8, 10, 3)).astype("float32")
    return images, np.eye(4, dtype="float32")[random.integers(0, 4, count)]


def numbered(count):
    """Images that hold their number in every pixel, so that each pixel tells where it comes from"""
    numbers = np.arange(count, dtype="float32")[:, None, None, None]
    return np.broadcast_to(numbers, (count, 8, 10, 1)), np.eye(count, dtype="float32")


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


def test_mixup_averages_images_and_labels_alike():
    images, labels = numbered(400)

    mixed, mixed_labels = map(np.asarray, augment.mixup(images, labels, SEED, alpha=0.5))

    share = mixed_labels.diagonal()
    expected = mixed_labels @ np.arange(400)
    np.testing.assert_allclose(mixed, np.broadcast_to(expected[:, None, None, None], mixed.shape),
                               rtol=1e-4, atol=1e-2)  # fmt: skip
    np.testing.assert_allclose(mixed_labels.sum(axis=1), 1, atol=1e-6)
    assert (np.count_nonzero(mixed_labels, axis=1) <= 2).all()
    # The Beta distribution of 0.5 and 0.5: its standard deviation is sqrt(1/8).
    assert share.mean() == pytest.approx(0.5, abs=0.06)
    assert share.std() == pytest.approx(0.354, abs=0.03)


def test_mixup_and_cutmix_take_turns_between_batches():
    images, labels = numbered(64)
    kinds = []
    for step in range(30):
        mixed, _ = augment.mixup_or_cutmix(images, labels, (0, step), cut=0.3)
        from_one = np.asarray(mixed) % 1 == 0
        kinds.append("cut" if from_one.all() else "mix")
        assert from_one.mean() < 0.5 or from_one.all()
    assert 3 < kinds.count("cut") < 16


@pytest.mark.parametrize("function", [augment.cutmix, augment.mixup])
def test_copies_of_an_image_meet_different_partners(function):
    images, labels = numbered(99)

    _, mixed = function(images, labels, SEED, probability=1.0)

    mixed = np.asarray(mixed) * (1 - labels)
    partners = np.where(mixed.any(axis=1), mixed.argmax(axis=1) // 3, -np.arange(99) - 1)
    met = [len(set(copies)) for copies in partners.reshape(33, 3)]  # three beside each other
    assert np.mean(met) > 2.8
    shares = np.count_nonzero(mixed, axis=1)
    assert shares.max() == 1
    assert np.count_nonzero(mixed, axis=0).max() == 1  # each is the partner of one


def test_erasing_fills_boxes_of_the_given_area_with_noise():
    images = np.full((300, 20, 30, 1), -1.0, "float32")

    erased, _ = augment.random_erasing(images, None, SEED, probability=0.5, area=(0.1, 0.2))

    areas = []
    for image in np.asarray(erased)[..., 0]:
        gone = image != -1
        if gone.any():
            rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
            assert gone.sum() == np.ptp(rows) * np.ptp(columns) + np.ptp(rows) + np.ptp(columns) + 1
            areas.append(gone.mean())
    assert 0.4 < len(areas) / 300 < 0.6
    assert min(areas) > 0.04  # where a long side was cut to the image's
    assert np.mean(areas) == pytest.approx(0.15, abs=0.02)
    noise = np.asarray(erased)[np.asarray(erased) != -1]
    assert noise.mean() == pytest.approx(127.5, abs=3)


@pytest.mark.parametrize("function", augment_images.IMAGE_AUGMENTATIONS.values())
@pytest.mark.parametrize("channels", [1, 3])
def test_image_augmentations_keep_shape_and_type_and_depend_on_the_seed_alone(function, channels):
    image = np.random.default_rng(0).integers(0, 256, (12, 9, channels)).astype("uint8")
    graph = tf.function(function)

    eager = [np.asarray(function(tf.constant(image), (0, seed))) for seed in range(12)]
    again = [np.asarray(graph(image, tf.constant([0, seed]))) for seed in range(12)]

    assert all(x.shape == image.shape and x.dtype == image.dtype for x in eager)
    # A compiler may join a multiplication and an addition: one level more or less.
    difference = np.abs(np.array(eager, int) - np.array(again, int))
    assert difference.max() <= 1
    assert difference.mean() < 0.01
    assert len({x.tobytes() for x in eager}) > (1 if function is augment_images.flip_image else 5)


def test_rand_augment_draws_operations_alike_and_strengths_around_the_magnitude(monkeypatch):
    calls = []

    def record(image, number, level, signed, increasing):
        calls.append((int(number), float(level), float(signed), increasing))
        return image

    monkeypatch.setattr(augment_images, "_operate", record)
    image = tf.zeros((4, 4, 3), tf.uint8)
    for seed in range(200):
        augment_images.rand_augment(image, (0, seed), layers=2, magnitude=9, increasing=True)

    counts = np.bincount([number for number, _, _, _ in calls], minlength=14)
    assert len(counts) == len(augment_images.OPERATIONS) == 14
    assert counts.min() > 12
    assert {round(level, 3) for _, level, _, _ in calls} == {0.9}
    assert {round(signed, 3) for _, _, signed, _ in calls} == {0.9, -0.9}
    assert all(increasing for _, _, _, increasing in calls)

    calls.clear()
    for seed in range(200):
        augment_images.rand_augment(image, (0, seed), layers=1, std=0.5, probability=0.5)
    assert 0.4 < np.mean([number == 0 for number, _, _, _ in calls]) < 0.65
    levels = np.array([level for _, level, _, _ in calls]) * 10
    assert levels.mean() == pytest.approx(9, abs=0.1)
    assert levels.std() == pytest.approx(0.5, abs=0.1)


def by_pillow(name, picture, increasing):
    """What the authors' code, and timm's "inc1", ask of Pillow at magnitude 9, drawn positive."""
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
    if name in pixels.STARTS:
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
def test_operations_have_the_published_strengths(name, increasing):
    picture = photograph(0, (200, 90, 30), size=(30, 40))
    number, level = tf.constant(augment_images.OPERATIONS.index(name)), tf.constant(0.9)

    found = augment_images._operate(
        tf.constant(np.asarray(picture)), number, level, level, increasing
    )

    expected = np.asarray(by_pillow(name, picture, increasing)).astype(int)
    difference = np.abs(np.asarray(found).astype(int) - expected)
    # 0.9 is not the same number in float32, in which enhancement is done.
    assert difference.max() <= (1 if name in pixels.STARTS else 0)


def test_three_augment_is_one_of_three():
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype("uint8"))
    grey, solarized = pixels.grayscale(image).numpy(), pixels.solarize(image).numpy()

    results = [augment_images.three_augment(image, (0, seed)).numpy() for seed in range(60)]

    greys = sum((result == grey).all() for result in results)
    solarised = sum((result == solarized).all() for result in results)
    assert 10 < greys < 32
    assert 10 < solarised < 32
    assert 10 < 60 - greys - solarised < 32


def test_colour_jitter_changes_three_things_by_at_most_so_much():
    image = tf.constant(np.random.default_rng(0).integers(60, 150, (64, 64, 3)).astype("uint8"))

    def measured(image):
        """Brightness, contrast for it, and saturation for both"""
        image = np.asarray(image, float)
        grey = image @ [0.299, 0.587, 0.114]  # ITU-R 601-2, as Pillow's
        contrast = grey.std() / grey.mean()
        colour = np.abs(image - grey[..., None]).mean() / grey.mean()
        return np.array([grey.mean(), contrast, colour / contrast])

    jittered = [augment_images.colour_jitter(image, (0, seed), 0.3) for seed in range(60)]

    # The three do not mix: each ratio is one factor, but for rounding to whole numbers.
    for ratios in np.transpose([measured(other) / measured(image) for other in jittered]):
        assert 0.69 < ratios.min() < 0.78
        assert 1.2 < ratios.max() < 1.31


def test_crops_of_a_border_hold_the_image_moved():
    image = np.arange(1, 65, dtype="uint8").reshape(8, 8, 1)
    padded = np.pad(image[..., 0], 2)
    boxes = {padded[y : y + 8, x : x + 8].tobytes() for y in range(5) for x in range(5)}

    crops = [
        np.asarray(augment.resized_crop_of_border(image, (8, 8), (0, seed), pixels=2))
        for seed in range(100)
    ]

    found = {crop[..., 0].astype("uint8").tobytes() for crop in crops}
    assert found <= boxes
    assert len(found) > 20


def test_random_resized_crop_cuts_boxes_of_the_given_area():
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
def test_random_resized_crop_resizes_as_pillow_does(interpolation, side):
    image = np.random.default_rng(0).integers(90, 160, (48, 48, 3)).astype("uint8")
    whole = {"area": (0.999, 1.0), "ratio": (1.0, 1.0)}

    crop = augment.random_resized_crop(
        image, (side, side), SEED, **whole, interpolation=interpolation
    )

    method = getattr(Image.Resampling, interpolation.upper())
    expected = np.asarray(Image.fromarray(image).resize((side, side), method), float)
    # Pillow rounds to whole numbers after each of two passes.
    np.testing.assert_allclose(crop, expected, atol=1.6)


def test_functions_have_names_for_reports_and_the_command_line():
    assert augment.describe(augment.flip) == "flip"
    assert augment.describe(partial(augment.shift, pixels=2)) == "shift(pixels=2)"
    assert augment.by_name("flip", augment.AUGMENTATIONS) is augment.flip
    moved = augment.by_name("shift(pixels=5)", augment.AUGMENTATIONS)
    assert (moved.func, moved.keywords) == (augment.shift, {"pixels": 5})
    with pytest.raises(InputError, match="shift has no argument 'pixel'; did you mean pixels"):
        augment.by_name("shift(pixel=5)", augment.AUGMENTATIONS)
    with pytest.raises(InputError, match=r"no such augmentation: 'shift\(5\)'"):
        augment.by_name("shift(5)", augment.AUGMENTATIONS)
    with pytest.raises(InputError, match="'flipp'; did you mean flip"):
        augment.by_name("flipp", augment.AUGMENTATIONS)
    with pytest.raises(InputError, match="no such augmentation: 'flip'"):
        augment.by_name("flip", augment.CROPS)
