"""Recipe and examples -> what a run folder keeps of them: config.json and samples/."""

import dataclasses
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
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": _commit(),
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
    rank = np.zeros(len(examples), int)  # of an image within its class
    for label in range(len(examples.class_names)):
        members = examples.labels == label
        rank[members] = np.arange(members.sum())
    for number, index in enumerate(np.lexsort((examples.labels, rank))[:SAMPLES]):
        name = re.sub(r"\W+", "-", examples.class_names[examples.labels[index]])
        png = tf.io.encode_png(shrink(examples.read(tf.constant(index)), short_side))
        tf.io.write_file(str(folder / f"{number:02}-{name}.png"), png)


def _commit():
    """The checkout's commit, marked where files differ from it; None without git."""
    if not shutil.which("git"):
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = pathlib.Path(__file__).parent
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
