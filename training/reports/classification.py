"""Evaluated classifier -> the pictures and sections of its report."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import confusion_matrix

from training.data.examples import Examples, classes_in_turn
from training.reports import figures
from training.reports.attention import overlays
from training.reports.markdown import escape, markdown_table
from training.reports.metrics import BINS, format_classes, reliability
from training.reports.sections import Report
from training.runs.folder import RunFolder
from vit_keras import ViT

if TYPE_CHECKING:
    from training.recipe import Recipe

CONFUSIONS = 10  # pairs of classes that are listed
ATTENTION_IMAGES = 8


def classification_report(
    run: RunFolder,
    recipe: "Recipe",
    model: ViT,
    examples: Examples,
    evaluation: dict[str, Any],
    probabilities: np.ndarray,
) -> Report:
    """Draws the pictures of a classifier's report into the run folder.

    Args:
        run: RunFolder.
        recipe: Recipe.
        model: the ViT that was evaluated.
        examples: Examples that it was evaluated on.
        evaluation: the content of evaluation.json.
        probabilities: (count, classes) for the examples.
    """
    bins = reliability(probabilities, examples.labels)
    pictures = {
        "confusion.png": figures.confusion(probabilities, examples),
        "mistakes.png": figures.mistakes(probabilities, examples),
        "calibration.png": figures.calibration(*bins),
    }
    for name, figure in pictures.items():
        figures.save(figure, run.path / name)
    sections = [
        f"""## Confusion matrix

![true class against predicted class, in images](confusion.png)

{_confusions(probabilities, examples)}""",
        """## The most confident mistakes

Above each image: its class, the predicted class, and the probability of the prediction.

![the worst mistakes](mistakes.png)""",
        _attention(run, model, examples),
        f"""## Calibration

{_calibration(evaluation, bins)}

![reliability diagram](calibration.png)""",
        f"""## Classes

{format_classes(evaluation)}""",
    ]
    title = f"{recipe.model.start} on {recipe.data.dataset}"
    return Report(title, _quality(evaluation), sections=sections)


def _quality(evaluation):
    """Rows of the first table: accuracy, its interval, calibration."""
    low, high = evaluation["interval"]
    images = f"{evaluation['images']:,} {evaluation['split']} images"
    if evaluation["split"] == "validation":
        images += ", which also chose the model"
    rows = [
        ("**accuracy**", f"**{evaluation['accuracy']:.1%}** of {images}"),
        ("95 % interval (Wilson)", f"{low:.1%} to {high:.1%}"),
    ]
    if "top5_accuracy" in evaluation:
        rows.append(("top-5 accuracy", f"{evaluation['top5_accuracy']:.1%}"))
    return [*rows, ("calibration error (ECE)", f"{evaluation['ece']:.1%}")]


def _confusions(probabilities, examples):
    """The pairs of classes that are confused most often, as a Markdown table."""
    names = examples.class_names
    classes = np.arange(len(names))
    matrix = confusion_matrix(examples.labels, probabilities.argmax(axis=1), labels=classes)
    members = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    rows = []
    for pair in np.argsort(-matrix, axis=None, kind="stable")[:CONFUSIONS]:
        label, prediction = np.unravel_index(pair, matrix.shape)
        if count := matrix[label, prediction]:
            fraction = f"{count / members[label]:.0%}"
            rows.append((escape(names[label]), escape(names[prediction]), count, fraction))
    if not rows:
        return "No class is confused with another."
    headers = ("class", "predicted as", "images", "of the class")
    alignment = ("left", "left", "right", "right")
    return markdown_table(rows, headers, tablefmt="pipe", colalign=alignment)


def _attention(run, model, examples):
    """Draws what the model attends to into attention.png; returns the section."""
    title = "## What the model looks at"
    if model.config.merge_tokens:
        return f"{title}\n\nThe model merges patches, so there is no map of single patches."
    chosen = classes_in_turn(examples.labels)[:ATTENTION_IMAGES]
    images = np.stack([model.preprocessing.to_size(examples.read(index)) for index in chosen])
    classes = [examples.class_names[label] for label in examples.labels[chosen]]
    figures.save(overlays(model, images, classes=classes), run.path / "attention.png")
    return f"""{title}

Next to each image: how much each patch contributes to the answer (attention rollout,
arXiv:2005.00928), from dark to bright. It shows where information can come from, not why a class
was chosen.

![images, and what counts in them](attention.png)"""


def _calibration(evaluation, bins):
    """The expected calibration error in words."""
    images, _, confidence = bins
    mean = float(images @ confidence) / evaluation["images"]
    verdict = "overconfident" if mean > evaluation["accuracy"] else "underconfident"
    return (
        f"The model is {verdict}: its mean confidence is {mean:.1%}, and "
        f"{evaluation['accuracy']:.1%} of its predictions are right. The expected calibration "
        f"error is {evaluation['ece']:.1%}: the mean distance between the two within {BINS} bins "
        f"of confidence (arXiv:1706.04599, section 2)."
    )
