"""Run folder -> report.md and report.html, and their pictures."""

import json
import pathlib
import shlex

import numpy as np
from tabulate import tabulate

from training.data.datasets import SPLIT_FOLDERS
from training.reports import figures
from training.reports.html import escape
from training.runs.folder import read_columns


def read_record(run):
    return json.loads((run / "config.json").read_text(encoding="utf-8"))


def summary(record, evaluation, quality):
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
    return table(rows, ("", ""))


def _time(seconds):
    """93.4 -> '1 min 33 s'"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = (hours, "h"), (minutes, "min"), (rest, "s")
    first = next((index for index, (number, _) in enumerate(parts) if number), 2)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2])


def training_section(run):
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


def provenance_sections(record, recipe):
    """How the model came about -> sections"""
    rows = [
        *((name, record[name]) for name in ("begun", "commit", "seed")),
        *record["versions"].items(),
    ]
    return (
        f"""## Environment

    {_command(record["command"])}

{table([(name, escape(value)) for name, value in rows], ("", ""))}""",
        f"""## Recipe

{table([(key, escape(value)) for key, value in recipe.as_dict().items()], ("field", "value"))}""",
    )


def _command(arguments):
    """sys.argv as it was typed"""
    program = pathlib.Path(arguments[0])
    if program.parts[-2:] == ("training", "__main__.py"):
        return f"python -m training {shlex.join(arguments[1:])}"
    return shlex.join(arguments)


def table(rows, headers):
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
