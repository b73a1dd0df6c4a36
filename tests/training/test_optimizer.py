"""The optimizer's rate and decay, read off what it does to weights."""

import keras
import numpy as np
import pytest
from support.tiny import tiny_model

from training.model.optimizer import OPTIMIZERS, AdamW, build_optimizer
from training.recipe import Recipe


def test_learning_rate_rises_linearly_and_falls_to_zero_along_a_cosine():
    optimizer = build_optimizer(
        Recipe().replace(learning_rate=2e-3, warmup_epochs=1).optimization, 10, 10, 2
    )
    optimizer.build([keras.Variable(0.0)])

    rates = []
    for step in range(101):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))

    np.testing.assert_allclose(rates[:11], np.linspace(0, 2e-3, 11), atol=1e-8)
    assert rates[55] == pytest.approx(1e-3)
    assert rates[100] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("schedule", "half_way"), [("linear", 1e-3), ("constant", 2e-3)])
def test_other_schedules(schedule, half_way):
    recipe = Recipe().replace(learning_rate=2e-3, warmup_epochs=1, schedule=schedule)
    optimizer = build_optimizer(recipe.optimization, 10, 11, 2)
    optimizer.build([keras.Variable(0.0)])
    rates = []
    for step in (5, 10, 60, 110):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))

    end = 0 if schedule == "linear" else 2e-3
    np.testing.assert_allclose(rates, [1e-3, 2e-3, half_way, end], atol=1e-9)


def test_no_warmup_starts_at_the_peak():
    optimizer = build_optimizer(
        Recipe().replace(learning_rate=2e-3, warmup_epochs=0).optimization, 10, 10, 2
    )
    optimizer.build([keras.Variable(0.0)])

    assert float(optimizer.learning_rate) == pytest.approx(2e-3)


KERNELS = 1 + 2 * 4 + 2  # the projection, two blocks, two layers of the head


def decays(optimizer, model):
    """What decay alone does, with zero gradients: {path: change / weight}, where there is any"""
    before = {weight.path: np.asarray(weight) for weight in model.trainable_weights}
    zeros = [keras.ops.zeros_like(weight) for weight in model.trainable_weights]
    optimizer.apply(zeros, model.trainable_weights)
    changes = {}
    for weight in model.trainable_weights:
        change = np.asarray(weight) - before[weight.path]
        if np.abs(change).max() > 0:
            changes[weight.path] = np.median(change / before[weight.path])
            np.testing.assert_allclose(
                change, changes[weight.path] * before[weight.path], atol=1e-6
            )
    return changes


def reloaded(optimizer, model, tmp_path):
    """The optimizer of a compiled model that went through a .keras file, and that model"""
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, "mse")
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    return model.optimizer, model


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("again", [False, True], ids=["fresh", "reloaded"])
def test_only_kernels_decay(name, again, tmp_path):
    model = tiny_model(head_width=20)
    recipe = Recipe().replace(optimizer=name, learning_rate=0.1, warmup_epochs=0, weight_decay=0.5)
    optimizer = build_optimizer(recipe.optimization, 10, 10, 2)
    if again:
        optimizer, model = reloaded(optimizer, model, tmp_path)

    changes = decays(optimizer, model)

    assert set(changes) == {w.path for w in model.weights if w.path.endswith("/kernel")}
    assert len(changes) == KERNELS
    np.testing.assert_allclose(list(changes.values()), -0.05, rtol=1e-4)


@pytest.mark.parametrize("again", [False, True], ids=["fresh", "reloaded"])
def test_earlier_layers_have_smaller_rates(again, tmp_path):
    model = tiny_model()
    recipe = Recipe().replace(learning_rate=0.1, warmup_epochs=0, weight_decay=0.5, layer_decay=0.5)
    optimizer = build_optimizer(recipe.optimization, 10, 10, 2)
    if again:
        optimizer, model = reloaded(optimizer, model, tmp_path)

    changes = decays(optimizer, model)

    expected = {"patch_encoder": 0.125, "block_0": 0.25, "block_1": 0.5, "head": 1.0}
    for path, change in changes.items():
        assert change == pytest.approx(-0.05 * expected[path.split("/")[0]], rel=1e-4)


def test_a_layers_rate_is_that_of_adam_with_that_rate():
    layers = [
        keras.layers.Dense(3, name=name, kernel_initializer="ones") for name in ("block_0", "x")
    ]
    small, large = [layer.build((None, 2)) or layer.kernel for layer in layers]
    ours = AdamW(0.1, rates={"block_0/": 0.3})
    plain = keras.optimizers.Adam(0.03)
    for gradient in np.random.default_rng(0).normal(size=(3, 2, 3)):
        ours.apply([keras.ops.convert_to_tensor(gradient, "float32")], [small])
        plain.apply([keras.ops.convert_to_tensor(gradient, "float32")], [large])
    np.testing.assert_allclose(np.asarray(small), np.asarray(large), rtol=1e-6)


def steps(recipe, gradients, name="bias"):
    """A weight [1, 2] of that name after each of the steps, and the optimizer"""
    weight = keras.Variable([1.0, 2.0], name=name)
    optimizer = build_optimizer(recipe.optimization, 10, 10, 2)
    values = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [weight])
        values.append(np.array(weight))
    return values, optimizer


CONSTANT = Recipe().replace(
    learning_rate=0.1, warmup_epochs=0, schedule="constant", weight_decay=0.0, global_clipnorm=0.0
)


def test_gradients_are_clipped_to_their_global_norm():
    recipe = CONSTANT.replace(optimizer="sgd", momentum=0.0, global_clipnorm=2.0)

    values, _ = steps(recipe, [[3.0, 4.0], [0.3, 0.4]])

    np.testing.assert_allclose(values[0], [1 - 0.1 * 2 * 0.6, 2 - 0.1 * 2 * 0.8], rtol=1e-6)
    np.testing.assert_allclose(values[1] - values[0], [-0.03, -0.04], rtol=1e-5)


def test_momentum_is_the_recipes():
    recipe = CONSTANT.replace(optimizer="sgd", momentum=0.5)

    values, _ = steps(recipe, [[1.0, 2.0], [0.0, 1.0]])

    np.testing.assert_allclose(values[1], [1 - 0.1 - 0.05, 2 - 0.2 - 0.1 - 0.1], rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "lamb", "muon"])
def test_beta_2_is_the_recipes(name):
    recipe = CONSTANT.replace(optimizer=name, beta_2=0.5)

    values, _ = steps(recipe, [[1.0, -2.0], [3.0, -2.0]])

    # Adam by hand: moments without bias after the second step.
    mean = (0.9 * 0.1 * 1 + 0.1 * 3) / (1 - 0.9**2)
    square = (0.5 * 0.5 * 1 + 0.5 * 9) / (1 - 0.5**2)
    np.testing.assert_allclose(values[0], [0.9, 2.1], rtol=1e-6)
    np.testing.assert_allclose(values[1], [0.9 - 0.1 * mean / np.sqrt(square), 2.2], rtol=1e-5)


def test_averages_follow_with_the_recipes_momentum():
    recipe = CONSTANT.replace(optimizer="sgd", momentum=0.0, ema_momentum=0.75)

    values, optimizer = steps(recipe, [[1.0, 2.0], [1.0, 2.0]])

    average = np.array(optimizer.averages[0])
    # The first average is the first value itself.
    np.testing.assert_allclose(average, 0.75 * values[0] + 0.25 * values[1], rtol=1e-6)


def test_lamb_trusts_kernels_by_their_norm_and_leaves_small_weights_free():
    recipe = CONSTANT.replace(optimizer="lamb")
    gradient = [[0.3, -7.0]]

    kernel, _ = steps(recipe, gradient, "kernel")
    bias, _ = steps(recipe, gradient, "bias")

    # Adam's first step is the sign: length sqrt(2); the kernel's is its own length, sqrt(5).
    step = 0.1 * np.sqrt(5) / np.sqrt(2)
    np.testing.assert_allclose(kernel[0], [1 - step, 2 + step], rtol=1e-5)
    np.testing.assert_allclose(bias[0], [0.9, 2.1], rtol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_epsilon_is_that_of_the_papers(name):
    values, _ = steps(CONSTANT.replace(optimizer=name), [[1e-7, -1e-7]])

    # Keras adds it to the biased moment's root ("epsilon hat" in Adam's paper).
    root = np.sqrt(0.001) * 1e-7
    step = 0.1 * root / (root + 1e-8)
    np.testing.assert_allclose(values[0], [1 - step, 2 + step], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_learn(name):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
    recipe = Recipe().replace(
        optimizer=name,
        learning_rate=0.02,
        warmup_epochs=0,
        ema_momentum=0.5,
        gradient_accumulation_steps=2,
    )
    model.compile(build_optimizer(recipe.optimization, 8, 10, 2), "mse", jit_compile=False)
    random = np.random.default_rng(0)
    inputs, targets = random.normal(size=(8, 6)), random.normal(size=(8, 5))
    before = model.evaluate(inputs, targets, verbose=0)

    model.fit(inputs, targets, batch_size=1, epochs=10, verbose=0)

    assert model.evaluate(inputs, targets, verbose=0) < 0.9 * before


def test_gradients_of_several_steps_make_one_change():
    weights = [keras.Variable([1.0, 2.0], name="w") for _ in range(2)]
    recipe = Recipe().replace(
        optimizer="sgd", warmup_epochs=0, weight_decay=0.0, global_clipnorm=0.0
    )
    accumulating = build_optimizer(
        recipe.replace(gradient_accumulation_steps=2).optimization, 10, 10, 2
    )
    plain = build_optimizer(recipe.optimization, 10, 10, 2)
    gradients = np.array([[0.5, -1.0], [0.1, 3.0]], "float32")

    for gradient in gradients:
        accumulating.apply([keras.ops.convert_to_tensor(gradient)], [weights[0]])
    plain.apply([keras.ops.convert_to_tensor(gradients.mean(axis=0))], [weights[1]])

    np.testing.assert_allclose(np.asarray(weights[0]), np.asarray(weights[1]), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(weights[0]), [1 - 3e-4, 2 - 1e-3], rtol=1e-6)
