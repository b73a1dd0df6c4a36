"""Model + labelled images -> accuracy, top-5 accuracy, and precision and recall per class."""

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score
from tabulate import tabulate

from training.datasets import SPLIT_FOLDERS, find_splits
from training.pipeline import evaluation_batches, read_all
from vit_keras.errors import InputError

BATCH_SIZE = 64


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
        {"images", "accuracy", "top5_accuracy" (above five classes), "per_class": {name:
        {"precision", "recall", "f1", "images"}}}; fractions of 1.
    """
    classes = np.arange(len(examples.class_names))
    predicted = probabilities.argmax(axis=1)
    scores = precision_recall_fscore_support(
        examples.labels, predicted, labels=classes, zero_division=0.0
    )
    evaluation: dict[str, object] = {"images": len(examples)}
    evaluation["accuracy"] = float(accuracy_score(examples.labels, predicted))
    if len(classes) > 5:
        evaluation["top5_accuracy"] = float(
            top_k_accuracy_score(examples.labels, probabilities, k=5, labels=classes)
        )
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


def format_evaluation(evaluation):
    """The evaluation as a Markdown table, above it a line with the totals."""
    line = f"Accuracy {evaluation['accuracy']:.1%} on {evaluation['images']:,} images"
    if evaluation.get("split"):
        line += f" ({evaluation['split']} split)"
    if "top5_accuracy" in evaluation:
        line += f", top-5 {evaluation['top5_accuracy']:.1%}"
    rows = [
        (name.replace("|", "\\|"), *scores.values())
        for name, scores in evaluation["per_class"].items()
    ]
    headers = ("class", "precision", "recall", "F1", "images")
    return f"{line}\n\n{tabulate(rows, headers, tablefmt='github', floatfmt='.3f')}"


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
