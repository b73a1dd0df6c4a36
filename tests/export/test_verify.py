"""How the answers of an artefact are compared with those of Keras."""

import numpy as np
import pytest
from support.tiny import tiny_model

from export.checks.verify import ask_keras, compare
from export.images import load_images


@pytest.fixture(scope="module")
def samples():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 24, 3), "uint8")
    model = tiny_model()
    return ask_keras(model, load_images(model, data=(pixels, np.arange(12) % 5))["evaluation"])


def test_the_difference_is_the_largest_of_any_answer(samples):
    probabilities = samples.expected["pixels"].copy()
    assert compare([("pixels", probabilities)], samples) == (0.0, 1.0)

    probabilities[3, 2] += 0.25

    difference, _ = compare([("pixels", probabilities)], samples)
    assert difference == pytest.approx(0.25)


def test_a_nan_exceeds_every_tolerance(samples):
    probabilities = samples.expected["pixels"].copy()
    probabilities[3, 2] = np.nan

    difference, _ = compare([("pixels", probabilities)], samples)

    assert not difference <= 1e9


def test_logits_are_compared_before_softmax(samples):
    logits = samples.expected["logits"]

    # Adding a constant to all logits leaves the probabilities unchanged.
    difference, agreement = compare([("logits", logits + 0.5)], samples)

    assert difference == pytest.approx(0.5 / max(1, np.abs(logits).max()), rel=1e-5)
    assert agreement == 1
