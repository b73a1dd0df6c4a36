"""Run folder + what a task reports -> report.md and report.html."""

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from training.data.datasets import SPLIT_FOLDERS
from training.reports import figures
from training.reports.html import write_page
from training.reports.markdown import escape, markdown_table
from training.runs.folder import RunFolder

if TYPE_CHECKING:
    from training.recipe import Recipe

Row = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Report:
    """The part of a report that depends on the task.

    Attributes:
        title: of the page.
        quality: rows of the first table that say how good the model is.
        introduction: Markdown below the first table, or "".
        sections: Markdown after the curves.
    """

    title: str
    quality: Sequence[Row]
    introduction: str = ""
    sections: Sequence[str] = ()


def write_report(
    run: RunFolder, recipe: "Recipe", evaluation: dict[str, Any], report: Report
) -> None:
    """Writes report.html, report.md and curves.png into a run folder.

    Args:
        run: RunFolder with everything but the report.
        recipe: Recipe.
        evaluation: the content of evaluation.json.
        report: what the task reports.
    """
    record = run.read_config()
    sections = [
        _overview(record, evaluation, report.quality),
        report.introduction,
        _training(run),
        *report.sections,
        _environment(record),
        _recipe(recipe),
    ]
    write_page(run.path / "report", report.title, "\n\n".join(filter(None, sections)))


def _overview(record, evaluation, quality):
    """Quality, images, size, time and machine as a Markdown table."""
    counts = evaluation["splits"]
    splits = (f"{counts[split]:,} {split}" for split in SPLIT_FOLDERS if split in counts)
    rows = [
        *quality,
        ("images", ", ".join(splits)),
        ("model", f"{escape(evaluation['model'])}; chosen on the validation images"),
        ("size", f"{evaluation['parameters']:,} parameters, {evaluation['bytes'] / 1e6:.2f} MB"),
    ]
    if "epochs" in evaluation:
        epochs = f"{evaluation['epochs']} epochs in {format_time(evaluation['training_seconds'])}"
        each = f"{evaluation['epoch_seconds']:.1f} s each with validation (median)"
        rows.append(("training", f"{epochs}, {each}"))
        rows.append(("speed", f"{evaluation['images_a_second']:,.0f} training images a second"))
    total = format_time(evaluation["seconds"])
    rows.append(("whole run", f"{total}, reading and evaluating included"))
    rows.append(("machine", escape(record["machine"])))
    return markdown_table(rows, ("", ""))


def format_time(seconds: float) -> str:
    """93.4 -> '1 min 33 s'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = (hours, "h"), (minutes, "min"), (rest, "s")
    first = next((index for index, (number, _) in enumerate(parts) if number), 2)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2])


def _training(run):
    """Draws the curves of the run into curves.png; returns the section."""
    history, throughput = run.read_history(), run.read_throughput()
    panels = {
        name: {"training": history[name], "validation": history[f"val_{name}"]}
        for name in ("loss", "accuracy")
        if name in history
    }
    note = "The head alone was trained, with several strengths of its penalty."
    if throughput:
        note = (
            "Training values are means over an epoch, in which the weights still change, of images "
            "that may be augmented and labels that may be smoothed: validation can look better."
        )
        epochs, images = throughput["images"]
        rates = np.array(images) / throughput["seconds"][1]
        panels["learning rate after each epoch"] = {"": throughput["learning_rate"]}
        panels["images a second (the first epoch compiles)"] = {"": (epochs, rates)}
    figures.save(figures.curves(panels, along=next(iter(history))), run.path / "curves.png")
    return f"""## Training

![learning curves](curves.png)

{note}"""


def _environment(record):
    rows = [
        *((name, record[name]) for name in ("begun", "commit", "seed")),
        *record["versions"].items(),
    ]
    return f"""## Environment

    {_command(record["command"])}

{markdown_table([(name, escape(value)) for name, value in rows], ("", ""))}"""


def _recipe(recipe):
    rows = [(name, escape(value)) for name, value in recipe.as_dict().items()]
    return f"""## Recipe

{markdown_table(rows, ("field", "value"))}"""


def _command(arguments):
    """sys.argv as it was typed."""
    program = pathlib.Path(arguments[0])
    if program.parts[-2:] == ("training", "__main__.py"):
        return f"python -m training {shlex.join(arguments[1:])}"
    return shlex.join(arguments)
