"""model.keras + where images are -> the model, its images, and its answers to them."""

import dataclasses
import pathlib

import keras
import numpy as np

from export.checks.verify import Samples, ask_keras
from export.endpoints import endpoints_of
from export.images import Images, load_images
from export.options import Options
from training.recipe import RunFolder
from vit_keras.model import load_any

Data = str | tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model to export, with the images and settings of its artefacts.

    Attributes:
        model: the trained model.
        images: {"calibration", "search", "evaluation": Images}.
        samples: the evaluation images and the model's answers.
        options: Options.
    """

    model: keras.Model
    images: dict[str, Images]
    samples: Samples
    options: Options


def find_model(path: str | pathlib.Path) -> pathlib.Path:
    """The path of a .keras file: the path itself, or the model of a run folder."""
    path = pathlib.Path(path)
    return RunFolder(path).model if path.is_dir() else path


def load(
    model: keras.Model | str | pathlib.Path, options: Options
) -> tuple[keras.Model, str | pathlib.Path | None]:
    """A model, loaded and checked, and the path of its file, or None."""
    path = None
    if isinstance(model, str | pathlib.Path):
        path = find_model(model)
        model = load_any(path)
    endpoints_of(model, path).check(model, path or model.name, options)
    return model, path


def load_subject(
    model: keras.Model,
    path: str | pathlib.Path | None,
    data: Data,
    data_dir: str,
    count: int,
    options: Options,
) -> Subject:
    """Loads a model's images, and asks it for its answers; arguments as in `export_artefact`.

    Raises:
        InputError: without images to verify on.
    """
    model = endpoints_of(model).inference_model(model)
    images = load_images(model, path, data, data_dir, count)
    return Subject(model, images, ask_keras(model, images["evaluation"], options), options)
