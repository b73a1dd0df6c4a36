"""Run folders -> ComparedRuns, seeds of one recipe in one group."""

import dataclasses
import json
import pathlib
import string
from collections.abc import Iterable
from typing import Any

import numpy as np

from training.runs.folder import RunFolder
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
    run = RunFolder(folder)
    record = run.read_config()
    if run.state != "finished":
        raise InputError(
            f"the run in {folder} is not finished; resume it with: python -m training fit "
            f"--resume {folder}"
        )
    evaluation = run.read_evaluation()
    predictions = run.read_predictions() if "accuracy" in evaluation else []
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
        history=run.read_history(),
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
