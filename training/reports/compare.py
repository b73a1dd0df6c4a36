"""Run folders -> tables that compare them, seeds of one recipe together."""

import itertools
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import ttest_ind

from training.reports import figures
from training.reports.compared_runs import ComparedRun, Groups, group_runs, read_run
from training.reports.html import write_page
from training.reports.markdown import escape, markdown_table
from vit_keras.utils.statistics import change_of_accuracy

# Key in evaluation.json: (title in the table, format).
METRICS = {
    "accuracy": ("accuracy", ".1%"),
    "loss": ("loss", ".4f"),
    "ece": ("ECE", ".1%"),
    "epochs": ("epochs", ",.0f"),
    "seconds": ("seconds", ",.0f"),
    "images_a_second": ("images a second", ",.0f"),
    "parameters": ("parameters", ",.0f"),
}


def compare_runs(
    paths: Iterable[str | pathlib.Path], out: str | pathlib.Path | None = None
) -> None:
    """Prints tables that compare runs.

    Args:
        paths: of run folders. Runs whose recipes differ only in the seed form one group.
        out: folder for compare.md, compare.html and compare.png; None writes no files.

    Raises:
        InputError: if a folder does not hold a finished run.
    """
    groups = group_runs([read_run(path) for path in dict.fromkeys(map(pathlib.Path, paths))])
    text = f"""## What differs

{_differences_table(groups)}

## Results

{_results_section(groups)}

{_changes_section(groups)}"""
    print(text)
    if out:
        _write(groups, text, pathlib.Path(out))


def _write(groups: Groups, text: str, out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    figure = _validation_figure(groups)
    if figure:
        figures.save(figure, out / "compare.png")
        text += """

## Validation

Each line is the mean of a group's runs; its band reaches from the lowest run to the highest.

![validation over epochs](compare.png)"""
    write_page(out / "compare", "Comparison of runs", text)
    print(f"\nWritten to {out / 'compare.html'}")


def format_mean(values: Sequence[float], form: str) -> str:
    """Returns '85.1% ± 0.4%': the mean, and the sample standard deviation if values differ."""
    text = format(np.mean(values), form)
    if len(set(values)) > 1:
        text += f" ± {format(np.std(values, ddof=1), form)}"
    return text


def disagreement(pairs: Iterable[tuple[ComparedRun, ComparedRun]]) -> float:
    """Returns the fraction of images to which two runs give different classes, its mean."""
    return float(np.mean([(one.predicted != other.predicted).mean() for one, other in pairs]))


def _results_section(groups: Groups) -> str:
    """A table with a column for each group: metrics, time and size."""
    columns = [_results(runs) for runs in groups.values()]
    titles = dict.fromkeys(title for column in columns for title in column)
    rows = [(title, *(column.get(title, "") for column in columns)) for title in titles]
    return (
        f"{markdown_table(rows, ('', *groups))}\n\n"
        f"± is the sample standard deviation over seeds, where they differ. Seconds are those of "
        f"the whole run; images a second are those of training."
    )


def _results(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """{title: value} of a group."""
    first = runs[0].evaluation
    cells = {
        "seeds": ", ".join(str(run.seed) for run in runs),
        "images": f"{first['images']:,} {first['split']}",
    }
    for key, (title, form) in METRICS.items():
        values = [run.evaluation[key] for run in runs if key in run.evaluation]
        if values:
            cells[title] = format_mean(values, form)
        if key == "accuracy" and values:
            cells["lowest to highest"] = f"{min(values):{form}} to {max(values):{form}}"
    return cells


def _changes_section(groups: Groups) -> str:
    """How the accuracy of every group differs from that of the first group."""
    (base, before), *others = groups.items()
    rows, other_images = [], []
    for name, after in others:
        if len({run.images for run in before + after}) > 1:
            other_images.append(name)
        elif before[0].images:
            rows.append({"": f"{name} against {base}", **_change(before, after)})
    notes = []
    if rows:
        notes = [
            markdown_table(rows, "keys"),
            "Intervals of 95 %: over images, the same runs on other images (matched pairs); over "
            "seeds, other seeds on the same images (Welch). Other answers: the fraction of images "
            "to which two runs, one of each group, give different classes. Between seeds: the same "
            "for two runs of one group.",
        ]
    if other_images:
        notes.append(
            f"Evaluated on other images than {base}: {', '.join(other_images)}. Accuracies on "
            f"different images cannot be compared."
        )
    return "\n\n".join(notes)


def _change(before: Sequence[ComparedRun], after: Sequence[ComparedRun]) -> dict[str, str]:
    """Cells of the table of changes."""
    change, *ends = change_of_accuracy(
        [run.correct for run in before], [run.correct for run in after]
    )
    within = [pair for runs in (before, after) for pair in itertools.combinations(runs, 2)]
    return {
        "accuracy, points": f"{100 * change:+.1f}",
        "over images": _format_interval(ends),
        "over seeds": _format_interval(_interval_over_seeds(before, after)),
        "other answers": f"{disagreement(itertools.product(before, after)):.1%}",
        "between seeds": f"{disagreement(within):.1%}" if within else "",
    }


def _interval_over_seeds(
    before: Sequence[ComparedRun], after: Sequence[ComparedRun]
) -> tuple[float, ...]:
    """Ends of Welch's 95 % interval of the change; () where it has no standard deviation."""
    one, other = ([run.evaluation["accuracy"] for run in runs] for runs in (before, after))
    if min(len(one), len(other)) < 2 or len({*one}) == len({*other}) == 1:
        return ()
    return tuple(ttest_ind(other, one, equal_var=False).confidence_interval(0.95))


def _format_interval(ends: Iterable[float]) -> str:
    return " to ".join(f"{100 * end:+.1f}" for end in ends)


def _differences_table(groups: Groups) -> str:
    """A table of the fields in which the groups, or runs of the first group, differ."""
    columns = {
        name: {"runs": [run.path for run in runs], **_field_values(runs)}
        for name, runs in groups.items()
    }
    fields = dict.fromkeys(field for column in columns.values() for field in column)
    rows = []
    for field in fields:
        cells = [column.get(field, []) for column in columns.values()]
        if field == "runs" or len(cells[0]) > 1 or any(cell != cells[0] for cell in cells):
            rows.append((field, *(escape(", ".join(cell)) for cell in cells)))
    return markdown_table(rows, ("", *columns))


def _field_values(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """{field: its different values in these runs, as texts}."""
    settings = [{**run.recipe, **run.environment} for run in runs]
    fields = dict.fromkeys(field for one in settings for field in one)
    return {field: sorted({str(one.get(field, "")) for one in settings}) for field in fields}


def _validation_figure(groups: Groups) -> Figure | None:
    """Validation accuracy of all groups over epochs, or their loss if a run has no accuracy."""
    histories = {
        name: [run.history for run in runs if "epoch" in run.history]
        for name, runs in groups.items()
    }
    histories = {name: runs for name, runs in histories.items() if runs}
    if not histories:
        return None
    labelled = all("val_accuracy" in history for runs in histories.values() for history in runs)
    column, title = ("val_accuracy", "validation accuracy") if labelled else ("val_loss", "loss")
    return figures.seeds(
        {name: [history[column] for history in runs] for name, runs in histories.items()}, title
    )
