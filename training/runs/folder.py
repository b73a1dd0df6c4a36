"""Recipe, examples, answers -> what a run folder keeps: config.json, samples/, predictions.csv."""

import contextlib
import csv
import fcntl
import json
import os
import re
import shutil
import time

import numpy as np
import tensorflow as tf

from training.data.examples import classes_in_turn
from training.data.preload import shrink
from training.runs.provenance import versions
from vit_keras.utils.errors import InputError
from vit_keras.utils.files import replacing, write_text

SAMPLES = 32  # images


def write_samples(examples, folder, short_side):
    """Writes up to 32 images as PNG files, classes in turn; exports verify themselves on them.

    Args:
        examples: Examples.
        folder: path.
        short_side: pixels; larger images are shrunk to it.
    """
    folder.mkdir(exist_ok=True)
    for number, index in enumerate(classes_in_turn(examples.labels)[:SAMPLES]):
        name = re.sub(r"\W+", "-", examples.class_names[examples.labels[index]])
        png = tf.io.encode_png(shrink(examples.read(tf.constant(index)), short_side))
        tf.io.write_file(str(folder / f"{number:02}-{name}.png"), png)


def write_predictions(path, probabilities, examples):
    """Writes a row for each image: its name, its class, the class predicted, and how probable.

    Args:
        path: of the CSV file.
        probabilities: (count, classes) for `examples`.
    """
    predicted, names = probabilities.argmax(axis=1), examples.class_names
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "true", "predicted", "probability"))
        for row in zip(examples.names, examples.labels, predicted, probabilities, strict=True):
            image, true, wrong, shares = row
            writer.writerow((image, names[true], names[wrong], f"{shares[wrong]:.6f}"))


def read_columns(path):
    """A CSV file of numbers -> {column: (values of the first column, values)}, where there are some

    Epochs, which Keras counts from 0, are counted from 1. No file has no columns.
    """
    if not path.exists():
        return {}
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    first, columns = next(iter(rows[0])), {}
    for column in rows[0]:
        values = [(float(row[first]) + (first == "epoch"), row[column]) for row in rows]
        known = [(x, float(value)) for x, value in values if value not in ("", "NA")]
        columns[column] = ([x for x, _ in known], [value for _, value in known])
    return columns


def cost(path):
    """What training took; {} without a file

    Args:
        path: of pace.csv.

    Returns:
        {"epochs", "training_seconds" (of all, with validation), "epoch_seconds" (as well) and
        "images_a_second" (in training alone), which are medians: the first epoch compiles}
    """
    pace = {name: np.array(values) for name, (_, values) in read_columns(path).items()}
    if not pace:
        return {}
    seconds = pace["seconds"] + pace["validation_seconds"]
    return {
        "epochs": len(seconds),
        "training_seconds": round(float(seconds.sum()), 1),
        "epoch_seconds": round(float(np.median(seconds)), 2),
        "images_a_second": round(float(np.median(pace["images"] / pace["seconds"])), 1),
    }


@contextlib.contextmanager
def alone_in(run):
    """Keeps a run folder for this process, until the block or the process ends.

    Raises:
        InputError: where another process has it.
    """
    handle = os.open(run, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process is training in the run folder {run}.") from None
        yield
    finally:
        os.close(handle)


def check_state(run, resume):
    """Raises InputError where a run can neither start in the folder nor, if asked, go on."""
    if (run / "report.md").exists():
        state = "holds a finished run;"
    elif resume or not run.exists():
        return
    elif not (run / "config.json").exists():
        if run.is_dir() and not any(run.iterdir()):
            return
        state = "is not empty;"
    # What a run leaves that stopped before training is no reason to refuse the next.
    elif {path.name for path in run.iterdir()} <= {"config.json", "unreadable.txt"}:
        return
    else:
        state = f"holds an unfinished run; go on with --resume {run}, or"
    raise InputError(f"the run folder {run} {state} name another one with --out.")


def compare_versions(run):
    before = json.loads((run / "config.json").read_text())["versions"]
    changed = [f"{name} {version}" for name, version in before.items() - versions().items()]
    if changed:
        begun = f"the run was begun with {', '.join(sorted(changed))}"
        print(f"Note: {begun}; from here on its numbers may be others.", flush=True)


def run_totals(run, model, splits, started):
    """The model's size and what the run took, as evaluation.json has them"""
    return {
        "splits": {split: len(examples) for split, examples in splits.items()},
        "parameters": model.count_params(),
        "bytes": (run / "model.keras").stat().st_size,
        "seconds": round(time.monotonic() - started, 1),
        **cost(run / "pace.csv"),
    }


def truncate_logs(run, epochs):
    """Leaves the first epochs in history.csv and pace.csv, and nothing that is half written."""
    for half in (*run.glob(".*"), *run.glob("checkpoints/.*")):
        shutil.rmtree(half, ignore_errors=True)
    for path in (run / "history.csv", run / "pace.csv"):
        if path.exists() and epochs:
            lines = path.read_text().splitlines(keepends=True)
            write_text(path, "".join(lines[: 1 + epochs]))
        else:
            path.unlink(missing_ok=True)
