"""Where a model's data is -> images to calibrate on, to search with, and to judge by.

`training` finds and reads the images.
"""

import dataclasses
import pathlib

import keras
import numpy as np
import tensorflow as tf

from export.endpoints import endpoints_of
from training.data.datasets import find_splits
from training.data.examples import Examples, stratified_order
from training.data.preload import shrink
from training.data.splits import load_splits, with_classes_of
from training.recipe import read_recipe, run_of
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.utils.errors import InputError

CALIBRATION = 200  # images, at most
SEARCH = 256  # images, at most
EVALUATION = 1000  # images, at most
FILES = 64  # images, at most
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Images:
    """Images at a model's size.

    Attributes:
        pixels: uint8 (count, height, width, channels).
        labels: int64 (count,), or None where they are unknown.
        files: the first images, at most 64, as PNG files of other sizes, at most twice as large.
        mean: of each channel, by which float32 inputs are normalised, fractions of 255.
        std: of each channel, likewise.
        source: how many images there are and where they are from, in words.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    files: list[bytes]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str = ""

    def prepared_by(self, preprocessing: Preprocessing) -> "Images":
        """The same images for an input with this normalisation."""
        return dataclasses.replace(self, mean=preprocessing.mean, std=preprocessing.std)

    def first(self, count: int) -> "Images":
        """The first `count` images."""
        labels = None if self.labels is None else self.labels[:count]
        return dataclasses.replace(self, pixels=self.pixels[:count], labels=labels)


def load_images(
    model: keras.Model,
    path: str | pathlib.Path | None = None,
    data: str | tuple[np.ndarray, np.ndarray] = "",
    data_dir: str = "",
    count: int = EVALUATION,
) -> dict[str, Images]:
    """Loads images of the kind that a model is for, in three parts that share none.

    Without `data` these are the images that the model was trained on, according to config.json next
    to it. If they are not there any more, these are the images in the folder `samples` next to it,
    whose labels are unknown. Images without labels are used for all three parts: there may be few.

    Args:
        model: the trained model.
        path: of its .keras file, or None.
        data: as for `python -m training fit --data`, or (uint8 images (count, height, width,
            channels), labels (count,)), or a folder of images without labels. Evaluation images are
            test images if there are any, otherwise validation images.
        data_dir: as for fit.
        count: evaluation images, at most.

    Returns:
        {"calibration", "search", "evaluation": Images}, drawn at random, in proportion to the
        classes.

    Raises:
        InputError: when there are no images, or too few.
    """
    splits, labelled, source = _find(model, path, data, data_dir)
    counts = {"evaluation": count, "search": SEARCH, "calibration": CALIBRATION}
    origins = _origins(splits)
    parts: dict[str, tuple[str, np.ndarray]] = {}
    for split, examples in splits.items():
        names = [part for part, origin in origins.items() if origin == split]
        order = stratified_order(examples.labels, _SEED)
        if not labelled:
            parts |= dict.fromkeys(names, (split, order))
            continue
        share = len(order) // max(1, len(names))
        if names and not share:
            raise InputError(
                f"{source} has too few images for an export: {len(order)} in its {split} split, "
                f"which has to be divided in {len(names)}. Name others with --data."
            )
        for part in names:
            size = min(counts[part], share)
            parts[part], order = (split, order[:size]), order[size:]
    return {
        part: _read(model, splits[split].subset(np.sort(indices)), labelled, f"{split} of {source}")
        for part, (split, indices) in parts.items()
    }


def _origins(splits):
    """{"evaluation", "search", "calibration": the split each is drawn from}."""
    ranked = [split for split in ("test", "validation", "train") if split in splits]
    evaluation, search = ranked[0], ranked[min(1, len(ranked) - 1)]
    return {"evaluation": evaluation, "search": search, "calibration": ranked[-1]}


def _find(model, path, data, data_dir):
    """({split: Examples}, whether their labels are known, where they are from)."""
    labelled = endpoints_of(model).labelled
    if isinstance(data, tuple):
        return {"train": _from_arrays(model, *data)}, labelled, "the given images"
    if data and (not labelled or _is_flat(data)):
        return _unlabelled(model, data, data_dir)
    if data:
        loaders = find_splits(data, model.preprocessing.channels, data_dir=data_dir)
        splits = {split: load() for split, load in loaders.items()}
        return _with_classes(model, splits, data), True, data
    run = run_of(path)
    if run.config.exists():
        recipe = read_recipe(run.config)
        dataset, seed = recipe.data.dataset, recipe.execution.seed
        try:
            splits = load_splits(recipe.data, recipe.model.channels, seed, labelled)
            if labelled:
                splits = _with_classes(model, splits, dataset)
            return splits, labelled, dataset
        except InputError as error:
            print(f"Note: the images of the run are not used: {error}", flush=True)
    if not run.samples.is_dir():
        raise InputError(
            f"there are no images to verify the export of {path} on; name some like those it was "
            f"trained on with --data."
        )
    return _unlabelled(model, str(run.samples), data_dir)


def _from_arrays(model, pixels, labels):
    names = tuple(map(str, range(len(labels))))
    classes = endpoints_of(model).labels(model) or tuple(map(str, np.unique(labels)))
    return Examples.from_pixels(pixels, labels, classes, names)


def _is_flat(data):
    """Whether that is a folder of images without folders of classes."""
    folder = pathlib.Path(data)
    return folder.is_dir() and not any(entry.is_dir() for entry in folder.iterdir())


def _unlabelled(model, data, data_dir):
    loaders = find_splits(data, model.preprocessing.channels, data_dir=data_dir, labelled=False)
    split = "train" if "train" in loaders else next(iter(loaders))
    return {"train": loaders[split]()}, False, f"{data}, labels unknown"


def _with_classes(model, splits, data):
    return {split: with_classes_of(model, examples, data) for split, examples in splits.items()}


def _read(model, examples, labelled, source):
    preprocessing = model.preprocessing
    short_side = 2 * max(preprocessing.image_size)

    def read(index):
        image = examples.read(index)
        sized = tf.clip_by_value(tf.round(preprocessing.to_size(image)), 0, 255)
        return index, shrink(image, short_side), tf.cast(sized, tf.uint8)

    indices: list[int] = []
    files: list[bytes] = []
    pixels: list[np.ndarray] = []
    dataset = tf.data.Dataset.range(len(examples)).map(read, tf.data.AUTOTUNE).ignore_errors()
    for index, image, sized in dataset:
        indices.append(int(index))
        pixels.append(sized.numpy())
        if len(files) < FILES:
            files.append(tf.io.encode_png(image).numpy())
    if not pixels:
        raise InputError(f"no image of the {source} can be read.")
    return Images(
        np.stack(pixels),
        examples.labels[indices] if labelled else None,
        files,
        preprocessing.mean,
        preprocessing.std,
        f"{len(pixels)} images, {source}",
    )
