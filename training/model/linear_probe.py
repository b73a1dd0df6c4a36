"""Model + Examples -> a head found by logistic regression on features."""

import warnings

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from training.data.pipeline import evaluation_batches
from training.data.sampling import balanced_weights
from training.model.fine_tuning import HEADS

STRENGTHS = (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # of a linear probe's penalty


def fit_head(model, recipe, train, validation):
    """Gives the model the head that logistic regression on its features finds.

    Features are computed once, without augmentation. Of several penalties the one is taken that is
    best on the validation images. Each head of a distilled model is found by itself.

    Args:
        model: ViT.
        recipe: Recipe.
        train, validation: Examples.

    Returns:
        what `fit_probes` yields, as a list, and the strength taken; for the last head.
    """
    for name in HEADS[: 1 + model.config.distilled]:
        head = model.get_layer(name)
        encoder = keras.Model(model.input, head.input)
        features, validated = (
            _features(encoder, examples, model.preprocessing, recipe.batch_size)
            for examples in (train, validation)
        )
        balance = balanced_weights(train) if recipe.balance != "none" else None
        tries = list(fit_probes(features, validated, balance))
        strength, best, _ = min(tries, key=lambda t: (-t[2]["val_accuracy"], t[2]["val_loss"]))
        head.set_weights(best)
    return tries, strength


def _features(encoder, examples, preprocessing, batch_size):
    batches = evaluation_batches(examples, preprocessing, batch_size)
    features = encoder.predict(batches.map(lambda images, labels: images), verbose=0)
    return features.astype("float32"), examples.labels


def fit_probes(train, validation, class_weights=None):
    """Logistic regressions on features, by L-BFGS, of every strength of the penalty in turn.

    The protocol of CLIP (arXiv:2103.00020, appendix A.3): nothing but the strength is searched.
    Features are standardised, which the returned weights undo.

    Args:
        train, validation: (features (count, width), labels (count,)).
        class_weights: (classes,), how much an image of each class counts; None for all alike.

    Yields:
        strength, (kernel (width, classes), bias (classes,)), and {"accuracy", "loss",
        "val_accuracy", "val_loss"}.
    """
    features, labels = train
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    sample_weight = None if class_weights is None else class_weights[labels]
    probe = LogisticRegression(max_iter=1000, warm_start=True)
    for strength in STRENGTHS:
        probe.set_params(C=1 / (strength * len(labels)))
        with warnings.catch_warnings():  # to stop before the minimum is one more penalty
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit((features - mean) / deviation, labels, sample_weight)
        kernel, bias = _multinomial(probe)
        kernel = kernel / deviation[:, np.newaxis]
        bias = bias - mean @ kernel
        scores = {}
        for prefix, (inputs, targets) in (("", train), ("val_", validation)):
            logits = inputs @ kernel + bias
            logits = logits - logits.max(axis=1, keepdims=True)
            losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(targets)), targets]
            scores[f"{prefix}accuracy"] = float((logits.argmax(axis=1) == targets).mean())
            scores[f"{prefix}loss"] = float(losses.mean())
        yield strength, (kernel, bias), scores


def _multinomial(probe):
    """A fitted LogisticRegression -> kernel (width, classes) and bias, also for two classes"""
    kernel, bias = probe.coef_.T, probe.intercept_
    if len(probe.classes_) == 2:  # of which scikit-learn states the second alone
        kernel, bias = np.hstack([-kernel, kernel]) / 2, np.array([-bias[0], bias[0]]) / 2
    return kernel, bias
