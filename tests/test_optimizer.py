"""The optimizer's rate and decay, read off what it does to weights."""

import keras
import numpy as np
import pytest
from tiny import tiny_model

from training.optimizer import build_optimizer
from training.recipe import Recipe


def test_learning_rate_rises_linearly_and_falls_to_zero_along_a_cosine():
    optimizer = build_optimizer(Recipe(learning_rate=2e-3, warmup_epochs=1, epochs=10), 10)
    optimizer.build([keras.Variable(0.0)])

    rates = []
    for step in range(101):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))

    np.testing.assert_allclose(rates[:11], np.linspace(0, 2e-3, 11), atol=1e-8)
    assert rates[55] == pytest.approx(1e-3)
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_no_warmup_starts_at_the_peak():
    optimizer = build_optimizer(Recipe(learning_rate=2e-3, warmup_epochs=0, epochs=10), 10)
    optimizer.build([keras.Variable(0.0)])

    assert float(optimizer.learning_rate) == pytest.approx(2e-3)


def test_only_kernels_decay():
    model = tiny_model(head_width=20)
    before = {weight.path: np.array(weight) for weight in model.trainable_weights}
    recipe = Recipe(learning_rate=0.1, warmup_epochs=0, weight_decay=0.5)
    optimizer = build_optimizer(recipe, steps_per_epoch=10)

    # With zero gradients, decay alone moves a weight: by learning rate * decay * weight.
    zeros = [keras.ops.zeros_like(weight) for weight in model.trainable_weights]
    optimizer.apply(zeros, model.trainable_weights)

    decayed = set()
    for weight in model.trainable_weights:
        change = np.array(weight) - before[weight.path]
        if np.abs(change).max() > 0:
            np.testing.assert_allclose(change, -0.05 * before[weight.path], atol=1e-6)
            decayed.add(weight.path)
    assert decayed == {path for path in before if path.endswith("/kernel")}
    assert len(decayed) == 1 + 2 * 4 + 2  # projection, two blocks, two layers of the head
