"""Model + labelled images -> accuracy, calibration, and precision and recall per class."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score

from training.data.examples import Examples
from training.reports.markdown import escape, markdown_table

BINS = 15  # of confidence, as in arXiv:1706.04599


def evaluate(probabilities: np.ndarray, examples: Examples) -> dict[str, Any]:
    """Computes metrics of predictions, as JSON-ready values.

    Args:
        probabilities: (count, classes), of `examples`.
        examples: the images evaluated.

    Returns:
        {"images", "accuracy", "interval" (of the accuracy, 95 %), "top5_accuracy" (with more than
        five classes), "ece" (expected calibration error), "per_class": {name: {"precision",
        "recall", "f1", "images"}}}, all fractions of 1. The interval is Wilson's, which also holds
        for few images and near 0 and 1 (Brown, Cai and DasGupta, Statistical Science 16, 2001).
    """
    classes = np.arange(len(examples.class_names))
    predicted = probabilities.argmax(axis=1)
    evaluation: dict[str, Any] = {"images": len(examples)}
    evaluation["accuracy"] = float(accuracy_score(examples.labels, predicted))
    right = int((predicted == examples.labels).sum())
    interval = binomtest(right, len(examples)).proportion_ci(method="wilson")
    evaluation["interval"] = [float(end) for end in interval]
    if len(classes) > 5:
        evaluation["top5_accuracy"] = float(
            top_k_accuracy_score(examples.labels, probabilities, k=5, labels=classes)
        )
    images, accuracy, confidence = reliability(probabilities, examples.labels)
    evaluation["ece"] = float(images @ np.abs(accuracy - confidence)) / len(examples)
    evaluation["per_class"] = _scores_per_class(predicted, examples)
    return evaluation


def _scores_per_class(predicted: np.ndarray, examples: Examples) -> dict[str, dict[str, Any]]:
    classes = np.arange(len(examples.class_names))
    scores = precision_recall_fscore_support(
        examples.labels, predicted, labels=classes, zero_division=0.0
    )
    return {
        name: {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "images": int(images),
        }
        for name, precision, recall, f1, images in zip(examples.class_names, *scores, strict=True)
    }


def reliability(
    probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measures how often predictions of similar confidence are right.

    A prediction's confidence is its highest probability (arXiv:1706.04599, section 2).

    Args:
        probabilities: (count, classes).
        labels: int (count,).

    Returns:
        images, accuracy, confidence, each (15,): the number of images with a confidence in
        ((m - 1) / 15, m / 15], the fraction of them that is right, and their mean confidence; 0 in
        empty bins.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    inner_edges = np.arange(1, BINS) / BINS
    bins = np.digitize(confidence, inner_edges, right=True)
    images, right_images, total_confidence = (
        np.bincount(bins, weights, BINS) for weights in (None, right, confidence)
    )
    divisor = np.maximum(images, 1)
    return images, right_images / divisor, total_confidence / divisor


def format_evaluation(evaluation: Mapping[str, Any]) -> str:
    """Returns a line with the totals of an `evaluate`, and a Markdown table of its classes."""
    low, high = evaluation["interval"]
    line = f"Accuracy {evaluation['accuracy']:.1%} on {evaluation['images']:,} images"
    if evaluation.get("split"):
        line += f" ({evaluation['split']} split)"
    line += f", 95 % interval {low:.1%} to {high:.1%}"
    if "top5_accuracy" in evaluation:
        line += f", top-5 {evaluation['top5_accuracy']:.1%}"
    line += f", ECE {evaluation['ece']:.1%}"
    return f"{line}\n\n{format_classes(evaluation)}"


def format_classes(evaluation: Mapping[str, Any]) -> str:
    """Returns a Markdown table with precision and recall of every class."""
    rows = [(escape(name), *scores.values()) for name, scores in evaluation["per_class"].items()]
    headers = ("class", "precision", "recall", "F1", "images")
    # The names are text, the others numbers.
    return markdown_table(rows, headers, tablefmt="pipe", floatfmt=".3f", disable_numparse=[0])
