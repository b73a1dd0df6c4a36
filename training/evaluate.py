"""Model + labelled images -> accuracy, calibration, and precision and recall per class."""

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score
from tabulate import tabulate

from training.datasets import SPLIT_FOLDERS, find_splits
from training.page import escape
from training.pipeline import evaluation_batches, read_all
from vit_keras.errors import InputError

BATCH_SIZE = 64
BINS = 15  # of confidence; those of arXiv:1706.04599


def predict_probabilities(model, examples, flip=False):
    """float32 (count, classes), the softmax of the model's logits for every example in order.

    Args:
        flip: whether to average those of each image and of its mirror image.
    """
    batches = evaluation_batches(examples, model.preprocessing, BATCH_SIZE)
    images = batches.map(lambda images, labels: images)
    views = [images]
    if flip:
        views.append(images.map(lambda images: tf.reverse(images, axis=[2])))
    logits = [model.predict(view, verbose=0) for view in views]
    return np.mean([keras.ops.softmax(view) for view in logits], axis=0)


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


def load_evaluation_images(model, data, split=None, data_dir=""):
    """The images to evaluate a model on, with the model's class indices.

    Args:
        model: ViT.
        data, data_dir: as in `find_splits`.
        split: "train", "validation" or "test", or for TFDS any as it spells them; by default the
            first there is of test, validation and train.

    Returns:
        the split's name, or None where all images are one, Examples, and {name: reason} of
        unreadable images that were left out.

    Raises:
        InputError: where that split does not exist, or has classes the model does not know.
    """
    spelled = None
    if split and data.startswith("tfds:"):
        spelled = {split if split in SPLIT_FOLDERS else "test": split}
        split = next(iter(spelled))
    found = find_splits(data, model.config.channels, spelled, data_dir)
    split = split or next(name for name in ("test", "validation", "train") if name in found)
    if split not in found:
        raise InputError(f"{data} has no {split!r} images; it has: {', '.join(found)}.")
    readable, reasons = read_all(with_classes_of(model, found[split](), data))
    return None if list(found) == ["train"] else split, readable, reasons


def with_classes_of(model, examples, data):
    """Examples of `data` whose labels are the model's.

    Raises:
        InputError: where they have classes the model does not know.
    """
    if model.class_names:
        return examples.with_classes(model.class_names)
    if len(examples.class_names) != model.config.num_classes:
        raise InputError(
            f"the model tells {model.config.num_classes} classes apart, {data} has "
            f"{len(examples.class_names)}."
        )
    return examples
