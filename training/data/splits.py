"""A recipe's dataset, or a model's -> its splits: training, validation and test Examples."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from training.data.datasets import SPLIT_FOLDERS, find_splits
from training.data.examples import Examples, split_off
from training.data.preload import decode_all
from training.rules import (
    FRACTION,
    INNER_FRACTION,
    NOT_NEGATIVE,
    check_fields,
    one_of,
)
from vit_keras.utils.errors import InputError

if TYPE_CHECKING:
    from vit_keras import ViT

BALANCES = ("none", "sampling", "weights")


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The images of a run.

    Attributes:
        dataset: `fashion_mini`, `fashion_mnist`, `tfds:NAME`, or a folder of images; empty in
            recipes for which the command line has to name it.
        data_dir: where TFDS keeps prepared data, or the folder of Fashion-MNIST's idx files.
        train_split: for TFDS, in its spelling, such as "train[:90%]".
        validation_split: for TFDS, in its spelling; empty for the usual name.
        test_split: for TFDS, in its spelling; empty for the usual name.
        validation_fraction: fraction of the training images, stratified by class, to validate on
            where the dataset has no validation split.
        max_unreadable: fraction of unreadable image files above which a run does not start.
        cache_mib: MiB of memory for decoded training images, shrunk to at most twice the model's
            size, and again for validation images at the model's size. A set that does not fit is
            decoded in every epoch.
        balance: for classes of different sizes: "sampling" draws every class equally often,
            "weights" weights the loss of an image by how rare its class is, "none" does neither.
    """

    dataset: str = "fashion_mini"
    data_dir: str = ""
    train_split: str = "train"
    validation_split: str = ""
    test_split: str = ""
    validation_fraction: float = 0.1
    max_unreadable: float = 0.05
    cache_mib: int = 1024
    balance: str = "none"

    def __post_init__(self) -> None:
        check_fields(
            self,
            {
                "cache_mib": NOT_NEGATIVE,
                "max_unreadable": FRACTION,
                "balance": one_of(BALANCES),
                "validation_fraction": INNER_FRACTION,
            },
        )


def load_splits(
    data: DataOptions, channels: int, seed: int, labelled: bool = True
) -> dict[str, Examples]:
    """Finds the splits of a run's dataset; no image is decoded yet.

    Args:
        data: DataOptions.
        channels: 1 to read the images as grey, 3 as RGB.
        seed: of the validation images drawn from the training images.
        labelled: whether images have classes.

    Returns:
        {"train", "validation" and, where the dataset has them, "test": Examples}.

    Raises:
        InputError: for a dataset without training images, or with fewer than two classes.
    """
    spelling = {
        "train": data.train_split,
        "validation": data.validation_split,
        "test": data.test_split,
    }
    loaders = find_splits(data.dataset, channels, spelling, data.data_dir, labelled)
    if "train" not in loaders:
        raise InputError(f"{data.dataset} has no training images; it has: {', '.join(loaders)}.")
    splits = {split: load() for split, load in loaders.items()}
    if labelled:
        check_classes(splits["train"], data.dataset)
    if "validation" not in splits:
        splits["train"], splits["validation"] = split_off(
            splits["train"], data.validation_fraction, seed
        )
    return splits


def check_classes(train: Examples, dataset: str) -> None:
    """Checks that there are images of two classes or more, and of every class.

    Raises:
        InputError: where there are not.
    """
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    if len(counts) < 2:
        raise InputError(
            f"{dataset} has only the class {train.class_names[0]!r}; "
            f"training needs images of two or more."
        )
    if not counts.all():
        raise InputError(
            f"class {train.class_names[counts.argmin()]!r} has no readable training images in "
            f"{dataset}. Add some, or remove the class."
        )


def readable_splits(
    splits: dict[str, Examples],
    data: DataOptions,
    image_size: tuple[int, int],
    report: pathlib.Path,
    labelled: bool = True,
) -> tuple[dict[str, Examples], dict[str, str]]:
    """Drops unreadable images and lists them; keeps small sets of images in memory.

    Args:
        splits: {split: Examples}.
        data: DataOptions.
        image_size: (height, width) of the model, pixels.
        report: path of the text file that lists unreadable images; written only if there are any.
        labelled: whether images have classes.

    Returns:
        The splits, and {name: reason} of the images that were dropped.

    Raises:
        InputError: where more than `max_unreadable` of the images cannot be read.
    """
    readable, reasons = {}, dict[str, str]()
    for split, examples in splits.items():
        # Only training images are read in every epoch, so only they are worth keeping.
        cache_mib = data.cache_mib if split == "train" else 0
        short_side = 2 * max(image_size) if split == "train" else None
        readable[split], unreadable = decode_all(examples, cache_mib, short_side)
        reasons |= unreadable
    if reasons:
        _report_unreadable(reasons, sum(map(len, splits.values())), data.max_unreadable, report)
        if labelled:
            check_classes(readable["train"], data.dataset)
    return readable, reasons


def _report_unreadable(reasons, total, max_unreadable, report):
    lines = [f"{name}\t{reason}" for name, reason in reasons.items()]
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    first = lines[0].replace("\t", ": ")
    finding = (
        f"{len(reasons)} of {total} images cannot be read ({first}, ...); all are listed in "
        f"{report}"
    )
    if len(reasons) > max_unreadable * total:
        raise InputError(
            f"{finding}. That is more than max_unreadable={max_unreadable}: repair or remove "
            f"them, or allow more with --set max_unreadable=0.5."
        )
    print(f"Warning: {finding}. They are skipped.", flush=True)


def load_evaluation_images(
    model: "ViT", dataset: str, split: str | None = None, data_dir: str = "", labelled: bool = True
) -> tuple[str | None, Examples, dict[str, str]]:
    """Loads the images to evaluate a model on, with the model's class indices.

    Args:
        model: ViT.
        dataset: as in `DataOptions`.
        split: "train", "validation" or "test", or for TFDS any split in its spelling; by default
            the first that exists of test, validation and train.
        data_dir: as in `DataOptions`.
        labelled: whether images have classes.

    Returns:
        The split's name, or None where the dataset is not split; Examples; and {name: reason} of
        unreadable images that were dropped.

    Raises:
        InputError: where that split does not exist, or has classes that the model does not have.
    """
    spelling = None
    if split and dataset.startswith("tfds:"):
        spelling = {split if split in SPLIT_FOLDERS else "test": split}
        split = next(iter(spelling))
    loaders = find_splits(dataset, model.config.channels, spelling, data_dir, labelled)
    split = split or next(name for name in ("test", "validation", "train") if name in loaders)
    if split not in loaders:
        raise InputError(f"{dataset} has no {split!r} images; it has: {', '.join(loaders)}.")
    examples = loaders[split]()
    if labelled:
        examples = with_classes_of(model, examples, dataset)
    readable, reasons = decode_all(examples)
    return None if list(loaders) == ["train"] else split, readable, reasons


def with_classes_of(model: "ViT", examples: Examples, dataset: str) -> Examples:
    """Replaces labels by the class indices of a model.

    Args:
        model: ViT with classes.
        examples: Examples.
        dataset: name for the error message.

    Raises:
        InputError: where the examples have classes that the model does not have.
    """
    if model.class_names:
        return examples.with_classes(model.class_names)
    if len(examples.class_names) != model.config.num_classes:
        raise InputError(
            f"the model has {model.config.num_classes} classes, {dataset} has "
            f"{len(examples.class_names)}."
        )
    return examples
