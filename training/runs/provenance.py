"""Process -> what is needed to repeat a run: versions, machine, commit."""

import dataclasses
import datetime
import os
import pathlib
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from training.runs.machine import processor_name
from vit_keras.config import ViTConfig
from vit_keras.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    from training.recipe import Recipe

PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets")


def describe_run(
    recipe: "Recipe", config: ViTConfig, preprocessing: Preprocessing
) -> dict[str, Any]:
    """Describes a run so that it can be repeated, as JSON-ready values.

    Args:
        recipe: Recipe.
        config: ViTConfig of the model, after the recipe and its weights.
        preprocessing: Preprocessing of the model.
    """
    return {
        "recipe": recipe.as_dict(),
        "model": config.to_fields(),
        "preprocessing": dataclasses.asdict(preprocessing),
        "command": sys.argv,
        "seed": recipe.execution.seed,
        "versions": versions(),
        "machine": _machine(),
        "commit": _commit(),
        "begun": datetime.datetime.now(datetime.UTC).isoformat(" ", "minutes"),
    }


def versions() -> dict[str, str]:
    """{"python" or a package: version} of everything that affects a run's numbers."""
    packages = {package: metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **packages}


def _machine() -> str:
    """'AMD EPYC 7B13, 2 cores', and the names of GPUs."""
    gpus = (
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    )
    return ", ".join([processor_name(), f"{os.cpu_count()} cores", *gpus])


def _commit() -> str | None:
    """The checkout's commit, marked if files differ from it; None without git."""
    if not shutil.which("git"):
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = pathlib.Path(__file__).parent
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
