"""Run folders -> ComparedRuns, seeds of one recipe in one group."""

import csv
import dataclasses
import json
import pathlib
import string
from collections.abc import Iterable
from typing import Any

import numpy as np

from training.runs.folder import read_columns
from vit_keras.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """What a comparison needs of a finished run.

    Attributes:
        path: of the run folder, as the caller wrote it.
        seed: of everything random in the run.
        recipe: the other fields of the recipe.
        environment: {name: value} of versions, machine and commit.
        evaluation: content of evaluation.json.
        history: {column: (epochs, values)} of history.csv.
        images: ((name, class), ...) of the evaluated images; empty without classes.
        predicted: (count,), the predicted class of each of them.
    """

    path: str
    seed: int
    recipe: dict[str, Any]
    environment: dict[str, Any]
    evaluation: dict[str, Any]
    history: dict[str, Any]
    images: tuple[tuple[str, str], ...]
    predicted: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Bool (count,), whether the prediction of each image is right."""
        return self.predicted == [true for _, true in self.images]


Groups = dict[str, list[ComparedRun]]  # by letter


def read_run(folder: pathlib.Path) -> ComparedRun:
    """Reads a run folder.

    Raises:
        InputError: if the folder does not hold a finished run.
    """
    if not (folder / "config.json").exists():
        raise InputError(f"{folder} is not a run folder: it has no config.json.")
    if not (folder / "report.md").exists():
        raise InputError(
            f"the run in {folder} is not finished; resume it with: python -m training fit "
            f"--resume {folder}"
        )
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    predictions: list[dict[str, str]] = []
    if "accuracy" in evaluation:
        with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
            predictions = list(csv.DictReader(file))
    return ComparedRun(
        path=str(folder),
        seed=record["recipe"].pop("seed"),
        recipe=record["recipe"],
        environment={
            **record["versions"],
            "machine": record["machine"],
            "commit": record["commit"],
        },
        evaluation=evaluation,
        history=read_columns(folder / "history.csv"),
        images=tuple((row["image"], row["true"]) for row in predictions),
        predicted=np.array([row["predicted"] for row in predictions]),
    )


def group_runs(runs: Iterable[ComparedRun]) -> Groups:
    """Groups runs whose recipes differ only in the seed.

    Returns:
        {"A": runs of the first run's recipe, "B": ..., "Z": ..., "AA": ...}.
    """
    groups: Groups = {}
    for run in runs:
        groups.setdefault(json.dumps(run.recipe, sort_keys=True), []).append(run)
    letters = string.ascii_uppercase
    return {
        letters[number % 26] * (1 + number // 26): members
        for number, members in enumerate(groups.values())
    }
