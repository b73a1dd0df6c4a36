"""A linear probe trains the head on features of the frozen model."""

import csv
import json

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from support.shared import shared_folder
from support.tiny import randomise

from training.data.datasets import find_splits
from training.data.examples import split_off
from training.data.pipeline import evaluation_batches
from training.fit import fit
from training.model.linear_probe import _features, fit_head, fit_probes
from vit_keras import build_vit, load_model


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
        correct = probabilities.argmax(1) == validation[1]
        assert probe.scores["val_accuracy"] == correct.mean()
        likelihoods = probabilities[np.arange(100), validation[1]]
        assert probe.scores["val_loss"] == pytest.approx(-np.log(likelihoods).mean(), rel=1e-6)


def test_class_weights_raise_the_recall_of_a_rare_class():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [180, 20])
    features = random.normal(size=(200, 3)) + labels[:, None] * 0.7
    rare = labels == 1

    def recall(weights):
        probe = list(fit_probes((features, labels), (features, labels), weights))[3]
        return ((features @ probe.kernel + probe.bias).argmax(1) == 1)[rare].mean()

    assert recall(np.array([200 / 360, 5.0])) > recall(None) + 0.3


@pytest.fixture(scope="module")
def probe_run(recipe, run_folder, tmp_path_factory):
    """The run folder of a linear probe on the model of `run_folder`."""
    probe = recipe.replace(weights=str(run_folder / "model.keras"), trainable="head")
    return shared_folder(tmp_path_factory, "probe_run", lambda folder: fit(probe, folder))


@pytest.mark.slow
def test_probe_run_changes_the_head_alone_and_has_a_report(run_folder, probe_run):
    evaluation = json.loads((probe_run / "evaluation.json").read_text())

    assert evaluation["accuracy"] > 0.8
    trained = load_model(run_folder / "model.keras")
    probed = load_model(probe_run / "model.keras")
    for layer in probed.layers[:-1]:
        before = trained.get_layer(layer.name).get_weights()
        for weight, expected in zip(layer.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, expected)
    rows = list(csv.DictReader((probe_run / "history.csv").open()))
    best = max(float(row["val_accuracy"]) for row in rows)
    assert evaluation["accuracy"] == pytest.approx(best)
    assert "the head alone, with a penalty of" in probed.description
    report = (probe_run / "report.md").read_text()
    assert probed.description in report
    assert evaluation["model"] in report


@pytest.mark.slow
def test_head_first_starts_with_the_head_of_a_probe(recipe, run_folder, probe_run, tmp_path):
    start = recipe.replace(weights=str(run_folder / "model.keras"), epochs=1)
    frozen = {"learning_rate": 1e-9, "weight_decay": 0.0, "head_first": True}

    fit(start.replace(**frozen), tmp_path / "run")

    runs = probe_run, tmp_path / "run"
    heads = [load_model(run / "model.keras").layers[-1] for run in runs]
    for probed, tuned in zip(*(head.get_weights() for head in heads), strict=True):
        np.testing.assert_allclose(tuned, probed, atol=1e-6)


@pytest.mark.slow
def test_each_head_of_a_distilled_model_is_probed_on_its_token(recipe, photographs):
    model = randomise(
        build_vit("deit_ti16_distilled", image_size=16, depth=1, width=12, num_classes=2)
    )
    train, validation = split_off(find_splits(str(photographs), 3)["train"](), 0.25, 0)

    fit_head(model, train, validation, recipe.optimization.batch_size)

    for name in ("head", "head_dist"):
        single = keras.Model(model.input, model.get_layer(name).output)
        batches = evaluation_batches(train, model.preprocessing, 6).map(lambda x, y: x)
        correct = single.predict(batches, verbose=0).argmax(1) == train.labels
        assert correct.mean() == 1.0  # red against blue


@pytest.mark.slow
def test_probe_of_a_half_precision_model_has_float32_features(recipe, run_folder, tmp_path):
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
