"""Run folder of a classifier -> report.md and report.html, with their pictures."""

import numpy as np
from sklearn.metrics import confusion_matrix
from tabulate import tabulate

from training.data.examples import classes_in_turn
from training.reports import figures
from training.reports.attention import overlays
from training.reports.html import escape, write_page
from training.reports.metrics import BINS, format_classes, reliability
from training.reports.sections import provenance_sections, read_record, summary, training_section

CONFUSIONS = 10  # pairs of classes that are listed


WATCHED = 8  # images


RIGHT = ("right", "right")


def write_report(run, recipe, evaluation, probabilities, examples, model):
    """Writes report.html and report.md, and their pictures, into the run folder.

    Args:
        run: path of a run folder with all that is no report.
        recipe: Recipe.
        evaluation: that of evaluation.json.
        probabilities: (count, classes) for `examples`, the images evaluated.
        model: the ViT that gave them.
    """
    record = read_record(run)
    measured = reliability(probabilities, examples.labels)
    pictures = {
        "confusion.png": figures.confusion(probabilities, examples),
        "mistakes.png": figures.mistakes(probabilities, examples),
        "calibration.png": figures.calibration(*measured),
    }
    for name, figure in pictures.items():
        figures.save(figure, run / name)
    sections = [
        summary(record, evaluation, _accuracy(evaluation)),
        training_section(run),
        f"""## Confusion matrix

![true class against predicted class, in images](confusion.png)

{_confusions(probabilities, examples)}""",
        """## The most confident mistakes

Above each image its class, what it was taken for, and the probability the model gave to that.

![the worst mistakes](mistakes.png)""",
        _attention(run, model, examples),
        f"""## Calibration

{_calibration(evaluation, measured)}

![reliability diagram](calibration.png)""",
        f"""## Classes

{format_classes(evaluation)}""",
        *provenance_sections(record, recipe),
    ]
    title = f"{recipe.weights or recipe.variant} on {recipe.data}"
    write_page(run / "report", title, "\n\n".join(sections))


def _accuracy(evaluation):
    """Rows of the summary, of a classifier"""
    low, high = evaluation["interval"]
    images = f"{evaluation['images']:,} {evaluation['split']} images"
    reused = ", which also chose the model" * (evaluation["split"] == "validation")
    rows = [
        ("**accuracy**", f"**{evaluation['accuracy']:.1%}** of {images}{reused}"),
        ("95 % interval (Wilson)", f"{low:.1%} to {high:.1%}"),
    ]
    if "top5_accuracy" in evaluation:
        rows.append(("top-5 accuracy", f"{evaluation['top5_accuracy']:.1%}"))
    return [*rows, ("calibration error (ECE)", f"{evaluation['ece']:.1%}")]


def _confusions(probabilities, examples):
    """The pairs of classes that are taken for each other most often -> Markdown table"""
    names = examples.class_names
    classes = np.arange(len(names))
    matrix = confusion_matrix(examples.labels, probabilities.argmax(axis=1), labels=classes)
    members = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    rows = []
    for pair in np.argsort(-matrix, axis=None, kind="stable")[:CONFUSIONS]:
        true, wrong = np.unravel_index(pair, matrix.shape)
        if count := matrix[true, wrong]:
            share = f"{count / members[true]:.0%}"
            rows.append((escape(names[true]), escape(names[wrong]), count, share))
    if not rows:
        return "Nothing is taken for anything else."
    headers = ("class", "taken for", "images", "of the class")
    return tabulate(
        rows, headers, tablefmt="pipe", disable_numparse=True, colalign=("left", "left", *RIGHT)
    )


def _attention(run, model, examples):
    """What the model looks at in some images, drawn into attention.png -> section"""
    title = "## What the model looks at"
    if model.config.merge_tokens:
        return f"{title}\n\nThe model merges patches, so that no single one can be pointed at."
    chosen = classes_in_turn(examples.labels)[:WATCHED]
    images = np.stack([model.preprocessing.to_size(examples.read(index)) for index in chosen])
    classes = [examples.class_names[label] for label in examples.labels[chosen]]
    figures.save(overlays(model, images, classes=classes), run / "attention.png")
    return f"""{title}

Beside each image how much each patch counts in the answer (attention rollout, arXiv:2005.00928),
from dark to bright. It shows where information can have come from, not why a class was chosen.

![images, and what counts in them](attention.png)"""


def _calibration(evaluation, measured):
    """The expected calibration error in words"""
    images, _, confidence = measured
    mean = float(images @ confidence) / evaluation["images"]
    verdict = "overconfident" if mean > evaluation["accuracy"] else "underconfident"
    return (
        f"The model is {verdict}: on average it gives its answer a probability of {mean:.1%}, and "
        f"{evaluation['accuracy']:.1%} of its answers are right. The expected calibration error is "
        f"{evaluation['ece']:.1%}: the mean distance of the two within {BINS} bins of confidence "
        f"(arXiv:1706.04599, section 2)."
    )
