"""How the answers of an artefact are compared with those of Keras."""

import numpy as np
import pytest
from support.tiny import tiny_model

from export.checks.verify import ask_keras
from export.endpoints import endpoints_of
from export.endpoints.endpoints import largest_difference
from export.images import load_images
from export.options import Options


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def samples(model):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 24, 3), "uint8")
    images = load_images(model, data=(pixels, np.arange(12) % 5))["evaluation"]
    return ask_keras(model, images, Options())


def test_the_difference_is_the_largest_of_any_answer(samples):
    probabilities = samples.expected["probabilities of pixels"].copy()
    answers = [("probabilities of pixels", probabilities)]
    assert largest_difference(answers, samples.expected) == 0

    probabilities[3, 2] += 0.25

    assert largest_difference(answers, samples.expected) == pytest.approx(0.25)


def test_a_nan_exceeds_every_tolerance(samples):
    probabilities = samples.expected["probabilities of pixels"].copy()
    probabilities[3, 2] = np.nan

    difference = largest_difference([("probabilities of pixels", probabilities)], samples.expected)

    assert not difference <= 1e9


def test_logits_are_compared_before_softmax(model, samples):
    logits = samples.expected["logits of pixels"]
    # Adding a constant to all logits leaves the probabilities unchanged.
    answers = [("logits of pixels", logits + 0.5)]

    difference = largest_difference(answers, samples.expected)

    assert difference == pytest.approx(0.5 / max(1, np.abs(logits).max()), rel=1e-5)
    judged = endpoints_of(model).judge(answers, samples.expected, samples.labels)
    assert judged["top1_agreement"] == 1
