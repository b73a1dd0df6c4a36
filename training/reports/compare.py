"""Run folders -> tables that put them side by side, seeds of one recipe together."""

import csv
import dataclasses
import itertools
import json
import pathlib
import string

import numpy as np
from scipy.stats import ttest_ind
from tabulate import tabulate

from training.reports import figures
from training.reports.html import escape, write_page
from training.runs.folder import read_columns
from vit_keras.utils.errors import InputError
from vit_keras.utils.statistics import change_of_accuracy

MEASURED = {  # in evaluation.json: what it is called here, and how it is written
    "accuracy": ("accuracy", ".1%"),
    "loss": ("loss", ".4f"),
    "ece": ("ECE", ".1%"),
    "epochs": ("epochs", ",.0f"),
    "seconds": ("seconds", ",.0f"),
    "images_a_second": ("images a second", ",.0f"),
    "parameters": ("parameters", ",.0f"),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run, as its folder tells it.

    Attributes:
        path: as it was given.
        seed: of everything random in it.
        recipe: its other fields.
        made: {what: how} it was made with besides: versions, machine, commit.
        evaluation: that of evaluation.json.
        history: that of history.csv, {column: (epochs, values)}.
        images: ((name, class), ...) of what it was evaluated on; empty without classes.
        predicted: (count,), the class it gave to each of them.
    """

    path: str
    seed: int
    recipe: dict
    made: dict
    evaluation: dict
    history: dict
    images: tuple
    predicted: np.ndarray

    @property
    def right(self):
        """bool (count,), whether it was right about each image"""
        return self.predicted == [true for _, true in self.images]


def compare(paths, out=None):
    """Prints runs side by side.

    Args:
        paths: of run folders. Those whose recipes differ in the seed alone make one group.
        out: folder for compare.md, compare.html and compare.png; None for none.

    Raises:
        InputError: for a folder that is no finished run.
    """
    groups = grouped([read_run(path) for path in dict.fromkeys(map(pathlib.Path, paths))])
    text = f"""## What differs

{_differences(groups)}

## Results

{_measured(groups)}

{_changes(groups)}"""
    print(text)
    if out:
        _write(groups, text, pathlib.Path(out))


def _write(groups, text, out):
    out.mkdir(parents=True, exist_ok=True)
    figure = _curves(groups)
    if figure:
        figures.save(figure, out / "compare.png")
        text += """

## Validation

The mean of a group's runs, in the band that they span.

![validation over epochs](compare.png)"""
    write_page(out / "compare", "Runs side by side", text)
    print(f"\nWritten to {out / 'compare.html'}")


def read_run(run):
    """Raises InputError where the folder holds no finished run."""
    if not (run / "config.json").exists():
        raise InputError(f"{run} is no run folder: it has no config.json.")
    if not (run / "report.md").exists():
        raise InputError(
            f"the run in {run} is not finished; go on with: python -m training fit --resume {run}"
        )
    record = json.loads((run / "config.json").read_text(encoding="utf-8"))
    evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    rows = []
    if "accuracy" in evaluation:
        with open(run / "predictions.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    return Run(
        path=str(run),
        seed=record["recipe"].pop("seed"),
        recipe=record["recipe"],
        made={**record["versions"], **{name: record[name] for name in ("machine", "commit")}},
        evaluation=evaluation,
        history=read_columns(run / "history.csv"),
        images=tuple((row["image"], row["true"]) for row in rows),
        predicted=np.array([row["predicted"] for row in rows]),
    )


def grouped(runs):
    """Runs -> {"A": those that differ from the first in the seed alone, "B": ...}"""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.recipe, sort_keys=True), []).append(run)
    letters = string.ascii_uppercase
    return {
        letters[number % 26] * (1 + number // 26): members
        for number, members in enumerate(groups.values())
    }


def spread(values, form):
    """'85.1% ± 0.4%': the mean, and the sample standard deviation where values differ"""
    text = format(np.mean(values), form)
    if len(set(values)) > 1:
        text += f" ± {format(np.std(values, ddof=1), form)}"
    return text


def disagreement(pairs):
    """The mean fraction of images to which two runs of a pair give other classes"""
    return np.mean([(one.predicted != other.predicted).mean() for one, other in pairs])


def _measured(groups):
    """A column for each group: what its runs reached, and what they took"""
    columns = [_reached(runs) for runs in groups.values()]
    titles = dict.fromkeys(title for column in columns for title in column)
    rows = [(title, *(column.get(title, "") for column in columns)) for title in titles]
    table = tabulate(rows, ("", *groups), tablefmt="github", disable_numparse=True)
    return (
        f"{table}\n\n± is the sample standard deviation over seeds, where they differ. Seconds are "
        f"those of the whole run, images a second those of training."
    )


def _reached(runs):
    """{what: how much} of a group"""
    first = runs[0].evaluation
    cells = {
        "seeds": ", ".join(str(run.seed) for run in runs),
        "images": f"{first['images']:,} {first['split']}",
    }
    for key, (title, form) in MEASURED.items():
        values = [run.evaluation[key] for run in runs if key in run.evaluation]
        if values:
            cells[title] = spread(values, form)
        if key == "accuracy" and values:
            cells["lowest to highest"] = f"{min(values):{form}} to {max(values):{form}}"
    return cells


def _changes(groups):
    """What every group changes against the first, where it is about the same images"""
    (base, before), *others = groups.items()
    rows, apart = [], []
    for name, after in others:
        if len({run.images for run in before + after}) > 1:
            apart.append(name)
        elif before[0].images:
            rows.append({"": f"{name} against {base}", **_change(before, after)})
    notes = []
    if rows:
        notes = [
            tabulate(rows, "keys", tablefmt="github", disable_numparse=True),
            "Intervals of 95 %: what other images might have shown of these very runs (matched "
            "pairs), and what other seeds might have on these images (Welch). Other answers: the "
            "images to which two runs, one of each group, give different classes; beside it, two "
            "of one group.",
        ]
    if apart:
        notes.append(
            f"Evaluated on other images than {base}: {', '.join(apart)}. Accuracies on different "
            f"images cannot be compared."
        )
    return "\n\n".join(notes)


def _change(before, after):
    """Cells of the table of changes"""
    change, *ends = change_of_accuracy(*([run.right for run in runs] for runs in (before, after)))
    within = [pair for runs in (before, after) for pair in itertools.combinations(runs, 2)]
    return {
        "accuracy, points": f"{100 * change:+.1f}",
        "over images": _interval(ends),
        "over seeds": _interval(_over_seeds(before, after)),
        "other answers": f"{disagreement(itertools.product(before, after)):.1%}",
        "between seeds": f"{disagreement(within):.1%}" if within else "",
    }


def _over_seeds(before, after):
    """Ends of Welch's 95 % interval of the change; none where the seeds tell nothing of a spread"""
    one, other = ([run.evaluation["accuracy"] for run in runs] for runs in (before, after))
    if min(len(one), len(other)) < 2 or len({*one}) == len({*other}) == 1:
        return ()
    return tuple(ttest_ind(other, one, equal_var=False).confidence_interval(0.95))


def _interval(ends):
    return " to ".join(f"{100 * end:+.1f}" for end in ends)


def _differences(groups):
    """The fields in which the groups, or the runs of one, differ"""
    told = {
        name: {"runs": [run.path for run in runs]} | _values(runs) for name, runs in groups.items()
    }
    fields = dict.fromkeys(field for values in told.values() for field in values)
    rows = []
    for field in fields:
        cells = [values.get(field, []) for values in told.values()]
        if field == "runs" or len(cells[0]) > 1 or any(cell != cells[0] for cell in cells):
            rows.append((field, *(escape(", ".join(cell)) for cell in cells)))
    return tabulate(rows, ("", *told), tablefmt="github", disable_numparse=True)


def _values(runs):
    """{field: the texts it has in these runs, without those that repeat}"""
    made = [{**run.recipe, **run.made} for run in runs]
    fields = dict.fromkeys(field for one in made for field in one)
    return {field: sorted({str(one.get(field, "")) for one in made}) for field in fields}


def _curves(groups):
    """Validation accuracy of all groups, or their loss where one has none -> Figure, or None"""
    histories = {
        name: [run.history for run in runs if "epoch" in run.history]
        for name, runs in groups.items()
    }
    histories = {name: found for name, found in histories.items() if found}
    if not histories:
        return None
    labelled = all("val_accuracy" in one for found in histories.values() for one in found)
    column, title = ("val_accuracy", "validation accuracy") if labelled else ("val_loss", "loss")
    return figures.seeds(
        {name: [one[column] for one in found] for name, found in histories.items()}, title
    )
