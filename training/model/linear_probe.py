"""Model + Examples -> a head found by logistic regression on features."""

import csv
import dataclasses
import pathlib
import warnings
from collections.abc import Iterable, Iterator

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from training.data.examples import Examples
from training.data.pipeline import evaluation_batches
from training.data.sampling import balanced_weights
from training.model.fine_tuning import HEADS
from vit_keras import ViT

STRENGTHS = (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # of the penalty


@dataclasses.dataclass(frozen=True)
class Probe:
    """A logistic regression on features.

    Attributes:
        strength: of the penalty on its weights.
        kernel: (width, classes).
        bias: (classes,).
        scores: {"accuracy", "loss", "val_accuracy", "val_loss"}.
    """

    strength: float
    kernel: np.ndarray
    bias: np.ndarray
    scores: dict[str, float]


def fit_head(
    model: ViT, train: Examples, validation: Examples, batch_size: int, balanced: bool = False
) -> tuple[list[Probe], Probe]:
    """Sets the model's head to the logistic regression on its features.

    Features are computed once, without augmentation. The penalty with the best validation accuracy
    is chosen. Each head of a distilled model is fitted separately.

    Args:
        model: ViT.
        train: Examples to fit on.
        validation: Examples that choose the penalty.
        batch_size: images whose features are computed together.
        balanced: whether every class counts equally, whatever its number of images.

    Returns:
        All probes and the chosen one, of the last head.
    """
    class_weights = balanced_weights(train) if balanced else None
    for name in HEADS[: 1 + model.config.distilled]:
        head = model.get_layer(name)
        encoder = keras.Model(model.input, head.input)
        features, validation_features = (
            _features(encoder, examples, model.preprocessing, batch_size)
            for examples in (train, validation)
        )
        probes = list(fit_probes(features, validation_features, class_weights))
        best = best_probe(probes)
        head.set_weights((best.kernel, best.bias))
    return probes, best


def best_probe(probes: Iterable[Probe]) -> Probe:
    """The probe with the best validation accuracy, and of these the least validation loss."""
    return min(probes, key=lambda probe: (-probe.scores["val_accuracy"], probe.scores["val_loss"]))


def write_probes(path: pathlib.Path, probes: list[Probe]) -> None:
    """Writes a CSV file with a row for each probe: its penalty and its scores."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["strength", *probes[0].scores])
        writer.writeheader()
        writer.writerows({"strength": probe.strength, **probe.scores} for probe in probes)


def _features(encoder, examples, preprocessing, batch_size):
    batches = evaluation_batches(examples, preprocessing, batch_size)
    features = encoder.predict(batches.map(lambda images, labels: images), verbose=0)
    return features.astype("float32"), examples.labels


def fit_probes(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    class_weights: np.ndarray | None = None,
) -> Iterator[Probe]:
    """Fits logistic regressions on features by L-BFGS, one for every strength of the penalty.

    The protocol of CLIP (arXiv:2103.00020, appendix A.3): only the strength is searched. Features
    are standardised for the fit; the returned weights are for features as they are.

    Args:
        train: (features (count, width), labels (count,)).
        validation: the same of other images.
        class_weights: (classes,), the weight of an image of each class; None for equal weights.

    Yields:
        Probe.
    """
    features, labels = train
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    sample_weight = None if class_weights is None else class_weights[labels]
    regression = LogisticRegression(max_iter=1000, warm_start=True)
    for strength in STRENGTHS:
        regression.set_params(C=1 / (strength * len(labels)))
        with warnings.catch_warnings():  # stopping before the minimum regularises as well
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.fit((features - mean) / deviation, labels, sample_weight)
        kernel, bias = _multinomial(regression)
        kernel = kernel / deviation[:, np.newaxis]
        bias = bias - mean @ kernel
        scores = _scores("", kernel, bias, *train) | _scores("val_", kernel, bias, *validation)
        yield Probe(strength, kernel, bias, scores)


def _scores(prefix, kernel, bias, features, labels):
    logits = features @ kernel + bias
    logits = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return {
        f"{prefix}accuracy": float((logits.argmax(axis=1) == labels).mean()),
        f"{prefix}loss": float(losses.mean()),
    }


def _multinomial(regression):
    """A fitted LogisticRegression -> kernel (width, classes) and bias (classes,)."""
    kernel, bias = regression.coef_.T, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn stores the second class only
        kernel, bias = np.hstack([-kernel, kernel]) / 2, np.array([-bias[0], bias[0]]) / 2
    return kernel, bias
