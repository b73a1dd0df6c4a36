"""Path -> the run folder: names of its files, its state, its readers and its lock."""

import contextlib
import csv
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from training.runs.provenance import versions
from vit_keras.utils.errors import InputError
from vit_keras.utils.files import write_json, write_text

Columns = dict[str, tuple[list[float], list[float]]]


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder that a run fills.

    Attributes:
        path: of the folder.
    """

    path: pathlib.Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> pathlib.Path:
        """config.json: recipe, model, versions, machine, seed and commit; written first."""
        return self.path / "config.json"

    @property
    def model(self) -> pathlib.Path:
        """model.keras: the best model on the validation images."""
        return self.path / "model.keras"

    @property
    def history(self) -> pathlib.Path:
        """history.csv: losses and metrics of each epoch."""
        return self.path / "history.csv"

    @property
    def throughput(self) -> pathlib.Path:
        """throughput.csv: learning rate, images and seconds of each epoch."""
        return self.path / "throughput.csv"

    @property
    def evaluation(self) -> pathlib.Path:
        """evaluation.json: metrics on the test images, or on the validation images."""
        return self.path / "evaluation.json"

    @property
    def predictions(self) -> pathlib.Path:
        """predictions.csv: true and predicted class of each evaluation image."""
        return self.path / "predictions.csv"

    @property
    def samples(self) -> pathlib.Path:
        """samples/: some evaluation images."""
        return self.path / "samples"

    @property
    def unreadable(self) -> pathlib.Path:
        """unreadable.txt: image files that cannot be read; only if there are any."""
        return self.path / "unreadable.txt"

    @property
    def checkpoints(self) -> pathlib.Path:
        """checkpoints/: the state of a run in training."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> pathlib.Path:
        """tensorboard/: curves."""
        return self.path / "tensorboard"

    @property
    def report(self) -> pathlib.Path:
        """report.md, next to report.html; written last."""
        return self.path / "report.md"

    @property
    def state(self) -> str:
        """The run's state, "new", "unfinished" or "finished"."""
        if self.report.exists():
            return "finished"
        # A run that stopped before training leaves these two.
        preliminary = {self.config.name, self.unreadable.name}
        if not self.config.exists() or {file.name for file in self.path.iterdir()} <= preliminary:
            return "new"
        return "unfinished"

    def check_usable(self, resume: bool) -> None:
        """Checks that a run can start in the folder or, with `resume`, continue.

        Raises:
            InputError: where it cannot.
        """
        state = self.state
        empty = self.path.is_dir() and not any(self.path.iterdir())
        if state == "new" and self.path.exists() and not (empty or self.config.exists()):
            state = "not empty"
        problems = {
            "finished": "holds a finished run;",
            "unfinished": f"holds an unfinished run; resume it with --resume {self}, or",
            "not empty": "is not empty;",
        }
        if resume and state != "finished":
            return
        if state in problems:
            raise InputError(
                f"the run folder {self} {problems[state]} choose another one with --out."
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Reserves the folder for this process until the block or the process ends.

        Raises:
            InputError: where another process has reserved it.
        """
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"another process is training in the run folder {self}.") from None
            yield
        finally:
            os.close(handle)

    def read_config(self) -> dict[str, Any]:
        """The content of config.json.

        Raises:
            InputError: where there is none.
        """
        if not self.config.exists():
            raise InputError(f"{self} is not a run folder: it has no {self.config.name}.")
        return json.loads(self.config.read_text(encoding="utf-8"))

    def write_evaluation(self, evaluation: dict[str, Any]) -> None:
        """Writes evaluation.json."""
        write_json(self.evaluation, evaluation)

    def read_evaluation(self) -> dict[str, Any]:
        """The content of evaluation.json."""
        return json.loads(self.evaluation.read_text(encoding="utf-8"))

    def read_history(self) -> Columns:
        """The columns of history.csv, see `read_columns`."""
        return read_columns(self.history)

    def read_throughput(self) -> Columns:
        """The columns of throughput.csv, see `read_columns`."""
        return read_columns(self.throughput)

    def read_predictions(self) -> list[dict[str, str]]:
        """The rows of predictions.csv."""
        with open(self.predictions, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def duration(self) -> dict[str, float]:
        """What training took.

        Returns:
            {"epochs", "training_seconds" (of all epochs, with validation), "epoch_seconds" (with
            validation) and "images_a_second" (in training alone)}; the last two are medians, as
            the first epoch compiles. {} without throughput.csv.
        """
        columns = {name: np.array(values) for name, (_, values) in self.read_throughput().items()}
        if not columns:
            return {}
        seconds = columns["seconds"] + columns["validation_seconds"]
        return {
            "epochs": len(seconds),
            "training_seconds": round(float(seconds.sum()), 1),
            "epoch_seconds": round(float(np.median(seconds)), 2),
            "images_a_second": round(float(np.median(columns["images"] / columns["seconds"])), 1),
        }

    def note_changed_versions(self) -> None:
        """Prints a note where the run was started with other versions of Python or packages."""
        before = self.read_config()["versions"]
        changed = [f"{name} {version}" for name, version in before.items() - versions().items()]
        if changed:
            print(
                f"Note: the run was started with {', '.join(sorted(changed))}; its numbers may "
                f"differ from here on.",
                flush=True,
            )

    def truncate_logs(self, epochs: int) -> None:
        """Keeps the first epochs of history.csv and throughput.csv; removes half-written files."""
        for partial in (*self.path.glob(".*"), *self.checkpoints.glob(".*")):
            shutil.rmtree(partial, ignore_errors=True)
        for path in (self.history, self.throughput):
            if path.exists() and epochs:
                lines = path.read_text().splitlines(keepends=True)
                write_text(path, "".join(lines[: 1 + epochs]))
            else:
                path.unlink(missing_ok=True)


def read_columns(path: pathlib.Path) -> Columns:
    """Reads a CSV file of numbers.

    Epochs, which Keras counts from 0, are counted from 1.

    Args:
        path: of the file; a missing file has no columns.

    Returns:
        {column: (values of the first column, values)}, without the rows in which the column is
        empty.
    """
    if not path.exists():
        return {}
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    first, columns = next(iter(rows[0])), {}
    for column in rows[0]:
        values = [(float(row[first]) + (first == "epoch"), row[column]) for row in rows]
        numbers = [(x, float(value)) for x, value in values if value not in ("", "NA")]
        columns[column] = ([x for x, _ in numbers], [value for _, value in numbers])
    return columns
