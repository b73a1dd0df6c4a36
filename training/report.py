"""Run folder -> report.md and report.html, and their pictures."""

import json
import pathlib
import shlex

import numpy as np
from sklearn.metrics import confusion_matrix
from tabulate import tabulate

from training import figures
from training.datasets import SPLIT_FOLDERS
from training.evaluate import BINS, format_classes, reliability
from training.explain import overlays
from training.page import escape, write_page
from training.record import classes_in_turn, read_columns

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
    record = _record(run)
    measured = reliability(probabilities, examples.labels)
    pictures = {
        "confusion.png": figures.confusion(probabilities, examples),
        "mistakes.png": figures.mistakes(probabilities, examples),
        "calibration.png": figures.calibration(*measured),
    }
    for name, figure in pictures.items():
        figures.save(figure, run / name)
    sections = [
        _summary(record, evaluation, _accuracy(evaluation)),
        _training(run),
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
        *_made(record, recipe),
    ]
    title = f"{recipe.weights or recipe.variant} on {recipe.data}"
    write_page(run / "report", title, "\n\n".join(sections))


def write_pretraining_report(run, recipe, evaluation):
    """Writes report.html and report.md, beside inpainting.png, which is there, into the run folder.

    Args:
        run: path of a run folder with all that is no report.
        recipe: Recipe with `pretrain`.
        evaluation: that of evaluation.json, with a "loss".
    """
    given = " Brightness and contrast of a hidden patch are the original's." * (
        recipe.pretrain == "mae" and recipe.decoder.get("normalised", True)
    )
    record = _record(run)
    images = f"{evaluation['images']:,} {evaluation['split']} images"
    sections = [
        _summary(record, evaluation, [("**loss**", f"**{evaluation['loss']:.4f}** on {images}")]),
        f"""Its encoder is fine-tuned with

    python -m training fit finetune --weights {run} --data LABELLED""",
        _training(run),
        f"""## What it fills in

Images the model was not trained on, what it saw of them, and what it filled in.{given}

![inpainting](inpainting.png)""",
        *_made(record, recipe),
    ]
    title = f"{recipe.variant}, {recipe.pretrain.upper()} on {recipe.data}"
    write_page(run / "report", title, "\n\n".join(sections))


def _record(run):
    return json.loads((run / "config.json").read_text(encoding="utf-8"))


def _summary(record, evaluation, quality):
    """The first things one asks -> Markdown table

    Args:
        record: that of config.json.
        evaluation: that of evaluation.json.
        quality: [(what, how much), ...] of what the model is for.
    """
    counts = evaluation["splits"]
    splits = (f"{counts[split]:,} {split}" for split in SPLIT_FOLDERS if split in counts)
    rows = [
        *quality,
        ("images", ", ".join(splits)),
        ("model", f"{escape(evaluation['model'])}; chosen on the validation images"),
        ("size", f"{evaluation['parameters']:,} parameters, {evaluation['bytes'] / 1e6:.2f} MB"),
    ]
    if "epochs" in evaluation:
        took = f"{evaluation['epochs']} epochs in {_time(evaluation['training_seconds'])}"
        each = f"{evaluation['epoch_seconds']:.1f} s each with validation (median)"
        rows.append(("training", f"{took}, {each}"))
        rows.append(("speed", f"{evaluation['images_a_second']:,.0f} training images a second"))
    rows.append(("whole run", f"{_time(evaluation['seconds'])}, reading and evaluating included"))
    rows.append(("machine", escape(record["machine"])))
    return _table(rows, ("", ""))


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


def _time(seconds):
    """93.4 -> '1 min 33 s'"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = (hours, "h"), (minutes, "min"), (rest, "s")
    first = next((index for index, (number, _) in enumerate(parts) if number), 2)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2])


def _training(run):
    """Curves of the run, drawn into curves.png -> section"""
    history = read_columns(run / "history.csv")
    pace = read_columns(run / "pace.csv")
    panels = {
        name: {"training": history[name], "validation": history[f"val_{name}"]}
        for name in ("loss", "accuracy")
        if name in history
    }
    note = "The head alone was trained, with several strengths of its penalty."
    if pace:
        note = (
            "Training values are means over an epoch, in which the weights still change, of images "
            "that may be augmented and labels that may be smoothed: validation can look better."
        )
        epochs, images = pace["images"]
        rates = np.array(images) / pace["seconds"][1]
        panels["learning rate after each epoch"] = {"": pace["learning_rate"]}
        panels["images a second (the first epoch compiles)"] = {"": (epochs, rates)}
    figures.save(figures.curves(panels, along=next(iter(history))), run / "curves.png")
    return f"""## Training

![learning curves](curves.png)

{note}"""


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


def _made(record, recipe):
    """How the model came about -> sections"""
    rows = [
        *((name, record[name]) for name in ("begun", "commit", "seed")),
        *record["versions"].items(),
    ]
    return (
        f"""## Environment

    {_command(record["command"])}

{_table([(name, escape(value)) for name, value in rows], ("", ""))}""",
        f"""## Recipe

{_table([(key, escape(value)) for key, value in recipe.as_dict().items()], ("field", "value"))}""",
    )


def _command(arguments):
    """sys.argv as it was typed"""
    program = pathlib.Path(arguments[0])
    if program.parts[-2:] == ("training", "__main__.py"):
        return f"python -m training {shlex.join(arguments[1:])}"
    return shlex.join(arguments)


def _table(rows, headers):
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
