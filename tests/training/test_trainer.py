"""Phases, lengths and averages of the training loop."""

import csv

import keras
import numpy as np
import pytest
from support.tiny import tiny_model
from support.trainers import class_objective, class_trainer

from training.callbacks import EvaluateEMA
from training.fit import fit
from training.model.trainer import Phase, RunLength, phases, run_length, trainer_at_size
from training.recipe import Recipe
from vit_keras import InputError, load_model
from vit_keras.layers.positions import resize_positions


def test_run_length_is_given_in_epochs_or_in_steps():
    assert run_length(Recipe().replace(epochs=7, batch_size=10), 104) == RunLength(7, 10)
    assert run_length(Recipe().replace(steps=500, batch_size=512), 50_000) == RunLength(5, 100)
    assert run_length(Recipe().replace(steps=3, batch_size=512), 50_000) == RunLength(1, 3)


def test_phases_of_progressive_resizing_have_whole_patches():
    recipe = Recipe().replace(progressive_resizing=((0.5, 0.3), (0.8, 0.4)))
    config = tiny_model().config  # 16 x 24, patches of 4

    assert phases(recipe, config, 10) == [
        Phase((8, 12), 0, 3),
        Phase((12, 20), 3, 7),
        Phase((16, 24), 7, 10),
    ]
    assert phases(recipe, config, 1) == [Phase((16, 24), 0, 1)]
    assert phases(Recipe(), config, 10) == [Phase((16, 24), 0, 10)]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_training_continues_at_another_size_from_weights_and_averages(policy):
    recipe = Recipe().replace(ema_momentum=0.9, jit_compile=False, mixed_precision=policy)
    options = {"registers": 2, "num_classes": 3}
    old = tiny_model(image_size=(8, 12), **options)
    before = class_trainer(old, recipe, 2, 2)
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(8, 8, 12, 3)), np.eye(3)[[0, 1, 2, 0] * 2]
    data = {"validation_data": (images, labels), "callbacks": [EvaluateEMA()], "verbose": 0}
    before.fit(images, labels, 4, **data)
    weights = [np.asarray(weight) for weight in before.trainable_variables]

    new, after = trainer_at_size(
        old, before, (16, 24), recipe, class_objective(recipe), RunLength(2, 2)
    )

    first, second = (getattr(t.optimizer, "inner_optimizer", t.optimizer) for t in (before, after))
    assert int(second.iterations) == 2
    pairs = zip(weights, after.trainable_variables, first.averages, second.averages, strict=True)
    different = 0
    for weight, grown, average, grown_average in pairs:
        weight, grown, average, grown_average = map(
            np.asarray, (weight, grown, average, grown_average)
        )
        different += np.abs(weight - average).max() > 0
        if weight.shape != grown.shape:
            weight, average = (
                resize_positions(x[0], (2, 3), (4, 6), new.config.position_resize)[None]
                for x in (weight, average)
            )
        np.testing.assert_allclose(grown, weight, atol=1e-6)
        np.testing.assert_allclose(grown_average, average, atol=1e-6)
    assert different > 20  # averages that are not the weights
    assert all(np.isfinite(np.asarray(state)).all() for state in second.variables)


@pytest.mark.slow
def test_validation_uses_averages_and_training_continues_from_the_weights():
    recipe = Recipe().replace(
        ema_momentum=0.5, jit_compile=False, learning_rate=1e-2, warmup_epochs=0
    )
    model = tiny_model(num_classes=3)
    trainer = class_trainer(model, recipe, 2, 2)
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(8, 16, 24, 3)), np.eye(3)[[0, 1, 2, 0] * 2]
    saved = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: saved.append((model.get_weights(), logs["val_loss"]))
    )

    trainer.fit(
        images,
        labels,
        batch_size=4,
        epochs=2,
        validation_data=(images, labels),
        shuffle=False,
        verbose=0,
        callbacks=[EvaluateEMA(), record],
    )

    averages = [np.asarray(average) for average in trainer.optimizer.averages]
    for validated, average in zip(saved[1][0], averages, strict=True):
        np.testing.assert_array_equal(validated, average)
    weights = model.get_weights()
    assert max(np.abs(a - w).max() for a, w in zip(averages, weights, strict=True)) > 1e-3
    model.set_weights(saved[1][0])
    loss, _ = trainer.evaluate(images, labels, verbose=0)
    assert loss == pytest.approx(saved[1][1], rel=1e-5)


def test_more_accumulation_steps_than_the_run_has_is_an_error(recipe, tmp_path):
    with pytest.raises(
        InputError, match="gradient_accumulation_steps=100 needs as many steps .* the run has 12"
    ):
        fit(recipe.replace(gradient_accumulation_steps=100), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_progressive_resizing_ends_at_the_image_size_of_the_recipe(recipe, tmp_path, momentum):
    growing = recipe.replace(progressive_resizing=((0.5, 0.4),), epochs=6, ema_momentum=momentum)

    evaluation = fit(growing, tmp_path / "run")

    assert evaluation
    assert evaluation["accuracy"] > 0.8
    assert load_model(tmp_path / "run" / "model.keras").input_shape == (None, 16, 24, 3)
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").open()))
    assert [row["epoch"] for row in rows] == list("012345")
