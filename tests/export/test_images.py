"""Images to calibrate, search and evaluate on: disjoint, stratified, from the run by default."""

import numpy as np
import pytest
from support.tiny import tiny_model

from export.images import load_images
from vit_keras import InputError, load_model


@pytest.fixture(scope="module")
def model():
    return tiny_model(class_names=tuple("abcde"))


def test_parts_are_disjoint_and_stratified(model):
    labels = np.repeat(np.arange(5), (300, 100, 100, 400, 100))
    pixels = np.zeros((1000, 16, 24, 3), "uint8")
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.arange(1000) // 256, np.arange(1000) % 256

    def numbers(images):  # 0..999: the first pixel of each image holds its number
        return 256 * images.pixels[:, 0, 0, 0].astype(int) + images.pixels[:, 0, 0, 1]

    parts = load_images(model, data=(pixels, labels), count=500)

    drawn = np.concatenate([numbers(part) for part in parts.values()])
    assert len(drawn) == len(np.unique(drawn)) == 333 + 256 + 200
    for part in parts.values():
        assert part.labels is not None
        np.testing.assert_array_equal(labels[numbers(part)], part.labels)
        shares = np.bincount(part.labels) / len(part.labels)
        np.testing.assert_allclose(shares, [0.3, 0.1, 0.1, 0.4, 0.1], atol=0.01)
    again = load_images(model, data=(pixels, labels), count=500)
    np.testing.assert_array_equal(parts["search"].pixels, again["search"].pixels)


def test_a_run_is_evaluated_on_its_own_validation_split(run_folder):
    model = load_model(run_folder / "model.keras")

    parts = load_images(model, run_folder / "model.keras")

    # 24 images: the recipe sets 6 aside for validation; there is no test split.
    assert {part: len(images.pixels) for part, images in parts.items()} == {
        "evaluation": 6,
        "search": 9,
        "calibration": 9,
    }
    labels = parts["evaluation"].labels
    assert labels is not None
    assert np.bincount(labels).tolist() == [3, 3]


def test_two_images_are_too_few(model):
    with pytest.raises(InputError, match="too few images for an export: 2 in its train split"):
        load_images(model, data=(np.zeros((2, 16, 24, 3), "uint8"), np.array([0, 1])))
