"""Model + labelled images -> accuracy, calibration, and precision and recall per class."""

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score
from tabulate import tabulate

from training.reports.html import escape

BINS = 15  # of confidence; those of arXiv:1706.04599


def evaluate(probabilities, examples):
    """Metrics of predictions, as JSON-ready values.

    Args:
        probabilities: (count, classes).
        examples: the Examples they were made for.

    Returns:
        {"images", "accuracy", "interval" (of the accuracy, 95 %), "top5_accuracy" (above five
        classes), "ece" (expected calibration error), "per_class": {name: {"precision", "recall",
        "f1", "images"}}}; fractions of 1. The interval is Wilson's, which holds for few images and
        near 0 and 1, too (Brown, Cai and DasGupta, Statistical Science 16, 2001).
    """
    classes = np.arange(len(examples.class_names))
    predicted = probabilities.argmax(axis=1)
    scores = precision_recall_fscore_support(
        examples.labels, predicted, labels=classes, zero_division=0.0
    )
    evaluation: dict[str, object] = {"images": len(examples)}
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
    evaluation["per_class"] = {
        name: {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "images": int(images),
        }
        for name, precision, recall, f1, images in zip(examples.class_names, *scores, strict=True)
    }
    return evaluation


def reliability(probabilities, labels):
    """How often predictions of about the same confidence are right (arXiv:1706.04599, section 2).

    Args:
        probabilities: (count, classes).
        labels: int (count,).

    Returns:
        images, accuracy, confidence, each (15,): how many images have a highest probability in
        ((m - 1) / 15, m / 15], the fraction of them that is right, and their mean highest
        probability; 0 where there are none.
    """
    highest = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    inner = np.arange(1, BINS) / BINS
    bins = np.digitize(highest, inner, right=True)
    images, accuracy, confidence = (
        np.bincount(bins, weights, BINS) for weights in (None, right, highest)
    )
    some = np.maximum(images, 1)
    return images, accuracy / some, confidence / some


def format_evaluation(evaluation):
    """The evaluation as a Markdown table, above it a line with the totals."""
    low, high = evaluation["interval"]
    line = f"Accuracy {evaluation['accuracy']:.1%} on {evaluation['images']:,} images"
    if evaluation.get("split"):
        line += f" ({evaluation['split']} split)"
    line += f", 95 % interval {low:.1%} to {high:.1%}"
    if "top5_accuracy" in evaluation:
        line += f", top-5 {evaluation['top5_accuracy']:.1%}"
    line += f", ECE {evaluation['ece']:.1%}"
    return f"{line}\n\n{format_classes(evaluation)}"


def format_classes(evaluation):
    """Precision and recall of every class as a Markdown table"""
    rows = [(escape(name), *scores.values()) for name, scores in evaluation["per_class"].items()]
    headers = ("class", "precision", "recall", "F1", "images")
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".3f", disable_numparse=[0])
