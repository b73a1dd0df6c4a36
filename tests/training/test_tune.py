"""What is trained is what `tune` names, and what is saved needs nothing of how it was trained."""

import csv
import json

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from support.shared import shared_folder
from support.tiny import randomise, tiny_model
from support.trainers import class_objective, class_trainer

from training.callbacks import EvaluateEMA
from training.data.datasets import find_splits
from training.data.examples import split_off
from training.data.pipeline import evaluation_batches
from training.fit import fit
from training.model.fine_tuning import restrict
from training.model.linear_probe import _features, fit_head, fit_probes
from training.model.options import FineTuningOptions
from training.model.trainer import Phase, RunLength, phases, run_length, trainer_at_size
from training.recipe import Recipe
from vit_keras import InputError, build_vit, load_model
from vit_keras.layers.positions import resize_positions

OPTIONS = {"num_classes": 3, "depth": 3}


def train(model, tmp_path, **options):
    """Trains for two steps -> the names of the layers that changed, and the model saved, loaded"""
    before = {weight.path: np.asarray(weight) for weight in model.weights}
    recipe = Recipe().replace(learning_rate=1e-2, warmup_epochs=0, jit_compile=False, **options)
    restrict(model, recipe.fine_tuning)
    trainer = class_trainer(model, recipe, 2, 1)
    random = np.random.default_rng(0)
    images = random.normal(size=(8, *model.input_shape[1:])).astype("float32")
    trainer.fit(images, np.eye(3)[random.integers(0, 3, 8)], batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), model(images), atol=2e-6)
    after = {weight.path: np.asarray(weight) for weight in loaded.weights}
    assert after.keys() == before.keys()
    changed = {path for path in before if (after[path] != before[path]).any()}
    return {path.split("/")[0] for path in changed}, changed, loaded


@pytest.mark.slow
def test_last_blocks_are_trained_with_all_behind_them(tmp_path):
    layers, _, _ = train(
        tiny_model(**OPTIONS), tmp_path, trainable="last_blocks", trainable_blocks=2
    )

    assert layers == {"block_1", "block_2", "norm", "head"}


@pytest.mark.slow
def test_lora_changes_the_matrices_of_blocks_by_its_rank_and_the_head(tmp_path):
    model = tiny_model(**OPTIONS)
    before = model.get_layer("block_1").mlp.expand.get_weights()[0]

    layers, changed, loaded = train(model, tmp_path, trainable="lora", lora_rank=2)

    assert layers == {"block_0", "block_1", "block_2", "head"}
    assert all(path.endswith("/kernel") or path.startswith("head") for path in changed)
    expand = loaded.get_layer("block_1").mlp.expand
    assert not expand.lora_enabled
    assert np.linalg.matrix_rank(expand.get_weights()[0] - before, tol=1e-4) == 2


def test_more_blocks_than_there_are_is_refused():
    with pytest.raises(InputError, match="the model has 3 blocks. Got trainable_blocks=4"):
        options = FineTuningOptions(trainable="last_blocks", trainable_blocks=4)
        restrict(tiny_model(**OPTIONS), options)


@pytest.mark.parametrize("classes", [2, 4])
def test_probe_penalty_is_independent_of_feature_scale(classes):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 300)
    features = random.normal(size=(300, 6)) * [1, 10, 100, 1, 1, 0.1] + 5
    features[:, 0] += 2 * labels
    train, validation = (features[:200], labels[:200]), (features[200:], labels[200:])

    probes = list(fit_probes(train, validation))

    mean, deviation = train[0].mean(0), train[0].std(0)
    for probe in probes[:4]:
        reference = LogisticRegression(C=1 / (200 * probe.strength), max_iter=5000, tol=1e-8)
        reference.fit((train[0] - mean) / deviation, train[1])
        expected = reference.predict_proba((validation[0] - mean) / deviation)
        logits = validation[0] @ probe.kernel + probe.bias
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(probabilities, expected, atol=5e-3)
        right = probabilities.argmax(1) == validation[1]
        assert probe.scores["val_accuracy"] == right.mean()
        chosen = probabilities[np.arange(100), validation[1]]
        assert probe.scores["val_loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-6)


@pytest.fixture(scope="module")
def probe_run(recipe, run_folder, tmp_path_factory):
    """The run folder of a linear probe on the model of `run_folder`"""
    probe = recipe.replace(weights=str(run_folder / "model.keras"), trainable="head")
    return shared_folder(tmp_path_factory, "probe_run", lambda folder: fit(probe, folder))


@pytest.mark.slow
def test_a_probe_is_a_run_like_any_other(run_folder, probe_run):
    evaluation = json.loads((probe_run / "evaluation.json").read_text())

    assert evaluation["accuracy"] > 0.8
    trained = load_model(run_folder / "model.keras")
    probed = load_model(probe_run / "model.keras")
    for layer in probed.layers[:-1]:
        for ours, theirs in zip(
            layer.get_weights(), trained.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    rows = list(csv.DictReader((probe_run / "history.csv").open()))
    best = max(float(row["val_accuracy"]) for row in rows)
    assert evaluation["accuracy"] == pytest.approx(best)
    assert "the head alone, with a penalty of" in probed.description
    report = (probe_run / "report.md").read_text()
    assert probed.description in report
    assert evaluation["model"] in report


@pytest.mark.slow
def test_a_head_that_comes_first_starts_as_its_probe(recipe, run_folder, probe_run, tmp_path):
    start = recipe.replace(weights=str(run_folder / "model.keras"), epochs=1)
    hardly = {"learning_rate": 1e-9, "weight_decay": 0.0, "head_first": True}

    fit(start.replace(**hardly), tmp_path / "run")

    runs = probe_run, tmp_path / "run"
    heads = [load_model(run / "model.keras").layers[-1] for run in runs]
    for probed, tuned in zip(*(head.get_weights() for head in heads), strict=True):
        np.testing.assert_allclose(tuned, probed, atol=1e-6)


@pytest.mark.slow
def test_each_head_of_a_distilled_model_is_probed_on_its_own_token(recipe, photographs):
    model = randomise(
        build_vit("deit_ti16_distilled", image_size=16, depth=1, width=12, num_classes=2)
    )
    train, validation = split_off(find_splits(str(photographs), 3)["train"](), 0.25, 0)

    fit_head(model, train, validation, recipe.optimization.batch_size)

    for name in ("head", "head_dist"):
        single = keras.Model(model.input, model.get_layer(name).output)
        batches = evaluation_batches(train, model.preprocessing, 6).map(lambda x, y: x)
        right = single.predict(batches, verbose=0).argmax(1) == train.labels
        assert right.mean() == 1.0  # red against blue


def test_a_run_may_be_as_long_as_so_many_steps():
    assert run_length(Recipe().replace(epochs=7, batch_size=10), 104) == RunLength(7, 10)
    assert run_length(Recipe().replace(steps=500, batch_size=512), 50_000) == RunLength(5, 100)
    assert run_length(Recipe().replace(steps=3, batch_size=512), 50_000) == RunLength(1, 3)


def test_smaller_images_come_first_in_whole_patches():
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
def test_training_goes_on_at_another_size_from_weights_and_from_averages(policy):
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
    moved = 0
    for weight, grown, average, grown_average in pairs:
        weight, grown, average, grown_average = map(
            np.asarray, (weight, grown, average, grown_average)
        )
        moved += np.abs(weight - average).max() > 0
        if weight.shape != grown.shape:
            weight, average = (
                resize_positions(x[0], (2, 3), (4, 6), new.config.position_resize)[None]
                for x in (weight, average)
            )
        np.testing.assert_allclose(grown, weight, atol=1e-6)
        np.testing.assert_allclose(grown_average, average, atol=1e-6)
    assert moved > 20  # the averages are not the weights
    assert all(np.isfinite(np.asarray(state)).all() for state in second.variables)


@pytest.mark.slow
def test_what_is_validated_are_the_averages_and_training_goes_on_from_the_weights():
    recipe = Recipe().replace(
        ema_momentum=0.5, jit_compile=False, learning_rate=1e-2, warmup_epochs=0
    )
    model = tiny_model(num_classes=3)
    trainer = class_trainer(model, recipe, 2, 2)
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(8, 16, 24, 3)), np.eye(3)[[0, 1, 2, 0] * 2]
    saved = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: saved.append((model.get_weights(), logs["val_loss"]))
    )

    trainer.fit(
        images, labels, 4, epochs=2, validation_data=(images, labels), shuffle=False, verbose=0,
        callbacks=[EvaluateEMA(), keep],
    )  # fmt: skip

    averages = [np.asarray(average) for average in trainer.optimizer.averages]
    np.testing.assert_array_equal(np.concatenate([w.ravel() for w in saved[1][0]]),
                                  np.concatenate([a.ravel() for a in averages]))  # fmt: skip
    raw = model.get_weights()
    assert max(np.abs(a - w).max() for a, w in zip(averages, raw, strict=True)) > 1e-3
    model.set_weights(saved[1][0])
    loss, _ = trainer.evaluate(images, labels, verbose=0)
    assert loss == pytest.approx(saved[1][1], rel=1e-5)


@pytest.mark.slow
def test_features_of_half_precision_are_float32_in_the_probe(recipe, run_folder, tmp_path):
    half = {"mixed_precision": "mixed_bfloat16", "trainable": "head"}
    weights = str(run_folder / "model.keras")

    evaluation = fit(recipe.replace(weights=weights, **half), tmp_path / "run")

    assert evaluation
    assert evaluation["accuracy"] > 0.8
    model = load_model(tmp_path / "run" / "model.keras")
    train = find_splits(recipe.data.dataset, 3)["train"]()
    features, _ = _features(
        keras.Model(model.input, model.layers[-1].input), train, model.preprocessing, 6
    )
    assert model.layers[-2].compute_dtype == "bfloat16"
    assert features.dtype == np.float32


def test_rare_classes_count_more_where_that_is_asked_for():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [180, 20])
    features = random.normal(size=(200, 3)) + labels[:, None] * 0.7
    rare = labels == 1

    def recall(weights):
        probe = list(fit_probes((features, labels), (features, labels), weights))[3]
        return ((features @ probe.kernel + probe.bias).argmax(1) == 1)[rare].mean()

    assert recall(np.array([200 / 360, 5.0])) > recall(None) + 0.3


def test_more_steps_to_a_change_than_there_are_is_refused(recipe, tmp_path):
    with pytest.raises(
        InputError, match="gradient_accumulation_steps=100 needs as many steps .* the run has 12"
    ):
        fit(recipe.replace(gradient_accumulation_steps=100), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_progressive_resizing_ends_with_the_size_of_the_recipe(recipe, tmp_path, momentum):
    growing = recipe.replace(progressive_resizing=((0.5, 0.4),), epochs=6, ema_momentum=momentum)

    evaluation = fit(growing, tmp_path / "run")

    assert evaluation
    assert evaluation["accuracy"] > 0.8
    assert load_model(tmp_path / "run" / "model.keras").input_shape == (None, 16, 24, 3)
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").open()))
    assert [row["epoch"] for row in rows] == list("012345")
