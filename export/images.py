"""Where a model's data is -> images to calibrate on, to choose by, and to judge by.

The one file of this folder that asks `training`, which knows how images are found and read.
"""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from training.data.datasets import find_splits
from training.data.examples import Examples
from training.data.preload import shrink
from training.data.splits import load_splits, with_classes_of
from training.recipe import read_recipe
from vit_keras.utils.errors import InputError

CALIBRATION = 200  # images, at the most
SEARCH = 256
EVALUATION = 1000
FILES = 64
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Images:
    """Images at a model's size.

    Attributes:
        pixels: uint8 (count, height, width, channels).
        labels: int64 (count,), or None where nobody knows.
        files: the first images, at most 64, as PNG files of other sizes, at most twice as large.
        mean, std: of each channel, by which the model's input is normalised, fractions of 255.
        source: how many they are and where from, in words.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    files: list[bytes]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def first(self, count):
        """The first images alone."""
        labels = None if self.labels is None else self.labels[:count]
        return dataclasses.replace(self, pixels=self.pixels[:count], labels=labels)


def load_images(model, path=None, data="", data_dir="", count=EVALUATION):
    """Images of the kind that a model is for, in three parts that share none.

    Without `data` these are what the model was trained on, which config.json beside it tells; if
    that cannot be found any more, the images in `samples` beside it, whose labels are not known.
    Images without labels are all three parts: there may be a handful.

    Args:
        model: ViT.
        path: of its .keras file, or None.
        data: what `python -m training fit --data` takes, or (uint8 images (count, height, width,
            channels), labels (count,)), or a folder of images without labels. It is judged by test
            images where there are some, or else by validation images.
        data_dir: as for fit.
        count: images to judge by, at the most.

    Returns:
        {"calibration", "search", "evaluation": Images}, drawn at random, class by class.

    Raises:
        InputError: where there are none, or too few.
    """
    splits, labelled, source = _find(model, path, data, data_dir)
    counts = {"evaluation": count, "search": SEARCH, "calibration": CALIBRATION}
    chosen = _pools(splits)
    parts: dict[str, tuple[str, np.ndarray]] = {}
    for split in splits:
        names = [part for part, pool in chosen.items() if pool == split]
        ordered = _by_class(splits[split].labels)
        if not labelled:
            parts |= dict.fromkeys(names, (split, ordered))
            continue
        share = len(ordered) // max(1, len(names))
        if names and not share:
            raise InputError(
                f"{source} has too few images for an export: {len(ordered)} in its {split} split, "
                f"which has to be divided in {len(names)}. Name others with --data."
            )
        for part in names:
            taken = min(counts[part], share)
            parts[part], ordered = (split, ordered[:taken]), ordered[taken:]
    return {
        part: _read(model, splits[split].subset(np.sort(indices)), labelled, f"{split} of {source}")
        for part, (split, indices) in parts.items()
    }


def _pools(splits):
    """{"evaluation", "search", "calibration": the split each is drawn from}"""
    ranked = [split for split in ("test", "validation", "train") if split in splits]
    evaluation, search = ranked[0], ranked[min(1, len(ranked) - 1)]
    return {"evaluation": evaluation, "search": search, "calibration": ranked[-1]}


def _find(model, path, data, data_dir):
    """({split: Examples}, whether their labels are known, where they are from)"""
    if isinstance(data, tuple):
        pixels, labels = data
        names = model.class_names or tuple(map(str, range(model.config.num_classes)))
        examples = Examples.from_pixels(pixels, labels, names, tuple(map(str, range(len(labels)))))
        return {"train": examples}, True, "the given images"
    if data and _is_flat(data):
        return _unlabelled(model, data)
    if data:
        found = find_splits(data, model.config.channels, data_dir=data_dir)
        splits = {split: load() for split, load in found.items()}
        return _matched(model, splits, data), True, data
    run = pathlib.Path(path or "model.keras").parent
    if (run / "config.json").exists():
        recipe = read_recipe(run / "config.json")
        try:
            return (
                _matched(model, load_recipe_splits(recipe), recipe.data.dataset),
                True,
                recipe.data.dataset,
            )
        except InputError as error:
            print(f"Note: the images of the run are not used: {error}", flush=True)
    if not (run / "samples").is_dir():
        raise InputError(
            f"there are no images to verify the export of {path} on; name some like those it was "
            f"trained on with --data."
        )
    return _unlabelled(model, str(run / "samples"))


def load_recipe_splits(recipe):
    """The splits of a run's recipe."""
    return load_splits(recipe.data, recipe.model.channels, recipe.execution.seed)


def _is_flat(data):
    """Whether that is a folder of images without folders of classes"""
    folder = pathlib.Path(data)
    return folder.is_dir() and not any(entry.is_dir() for entry in folder.iterdir())


def _unlabelled(model, folder):
    splits = find_splits(folder, model.config.channels, labelled=False)
    return {"train": splits["train"]()}, False, f"{folder}, labels unknown"


def _matched(model, splits, data):
    return {split: with_classes_of(model, found, data) for split, found in splits.items()}


def _by_class(labels):
    """All indices, in an order whose every beginning holds the classes in their proportions"""
    random = np.random.default_rng(_SEED)
    shuffled = random.permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        position[members] = (np.arange(len(members)) + random.random()) / len(members)
    return shuffled[np.argsort(position, kind="stable")]


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
    labels = examples.labels[indices] if labelled else None
    return Images(
        np.stack(pixels),
        labels,
        files,
        preprocessing.mean,
        preprocessing.std,
        f"{len(pixels)} images, {source}",
    )
