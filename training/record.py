"""Recipe, examples, answers -> what a run folder keeps: config.json, samples/, predictions.csv."""

import csv
import dataclasses
import datetime
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata

import numpy as np
import tensorflow as tf

from training.pipeline import shrink
from vit_keras.files import replacing

PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets")
SAMPLES = 32  # images


def describe_run(recipe, config, preprocessing):
    """All that somebody needs to do the same again, as JSON-ready values.

    Args:
        recipe: Recipe.
        config, preprocessing: ViTConfig and Preprocessing that became of it; its weights may
            have decided them.
    """
    return {
        "recipe": recipe.as_dict(),
        "model": dataclasses.asdict(config),
        "preprocessing": dataclasses.asdict(preprocessing),
        "command": sys.argv,
        "seed": recipe.seed,
        "versions": versions(),
        "machine": _machine(),
        "commit": _commit(),
        "begun": datetime.datetime.now(datetime.UTC).isoformat(" ", "minutes"),
    }


def versions():
    """{"python" or a package: version} of what decides a run's numbers"""
    packages = {package: metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **packages}


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


def classes_in_turn(labels):
    """Indices of all images: the first of every class, the second of every class, ..."""
    rank = np.zeros(len(labels), int)  # of an image within its class
    for label in np.unique(labels):
        members = labels == label
        rank[members] = np.arange(members.sum())
    return np.lexsort((labels, rank))


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


def _machine():
    """'AMD EPYC 7B13, 2 cores', and the names of GPUs"""
    info = pathlib.Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", info.read_text(), re.M) if info.exists() else None
    processor = named[1] if named else platform.machine()
    gpus = (
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    )
    return ", ".join([processor, f"{os.cpu_count()} cores", *gpus])


def _commit():
    """The checkout's commit, marked where files differ from it; None without git."""
    if not shutil.which("git"):
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = pathlib.Path(__file__).parent
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
