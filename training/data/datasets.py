"""Dataset name or folder -> labelled images that can be read in any order, split in three."""

import os
import pathlib
from collections.abc import Mapping
from functools import partial

import numpy as np
import tensorflow as tf

from training.data.examples import Examples, SplitLoaders
from training.data.fashion_mnist import fashion_mini_splits, fashion_mnist_splits
from training.data.tfds import tfds_splits
from vit_keras.images.decoding import SUFFIXES, decode_image
from vit_keras.utils.errors import InputError, did_you_mean

NAMED = {"fashion_mini": fashion_mini_splits, "fashion_mnist": fashion_mnist_splits}
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
UNSUPPORTED = (".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2")
_HIDDEN = (".", "__")  # first characters of folders that archivers and file managers make


def find_splits(
    data: str,
    channels: int,
    splits: Mapping[str, str] | None = None,
    data_dir: str = "",
    labelled: bool = True,
) -> SplitLoaders:
    """Finds the training, validation and test images of a dataset.

    Args:
        data: `fashion_mini`, `fashion_mnist`, `tfds:NAME`, or a folder which holds CLASS/image
            files, or {train,val,test}/CLASS/image files (or training, valid, validation, testing).
        channels: 1 to read the images as grey, 3 as RGB.
        splits: for TFDS: {"train": ..., "validation": ..., "test": ...} in TFDS's notation; an
            empty or missing one is the split of that name, if it exists.
        data_dir: for TFDS and `fashion_mnist`: where their files are.
        labelled: whether the folders in a folder are classes. If not, images may lie anywhere in
            the folder, and all have the same class.

    Returns:
        {"train": function() -> Examples, "validation": ..., "test": ...} of those that exist.
        Images are first read when the function is called.

    Raises:
        InputError: for an unknown name, and for a folder without images of classes.
    """
    if data in NAMED:
        return NAMED[data](channels, data_dir)
    if data.startswith("tfds:"):
        return tfds_splits(data.removeprefix("tfds:"), channels, splits or {}, data_dir or None)
    folder = pathlib.Path(data)
    if not folder.is_dir():
        known = ", ".join([*NAMED, "tfds:NAME"])
        raise InputError(f"no such dataset or folder: {folder}. Datasets: {known}.")
    if labelled:
        return _labelled_splits(folder, channels)
    return _unlabelled_splits(folder, channels)


def _labelled_splits(folder: pathlib.Path, channels: int) -> SplitLoaders:
    roots = _split_folders(folder, labelled=True) or {"train": folder}
    class_names = _subfolders(next(iter(roots.values())))
    if not class_names:
        raise InputError(
            f"{folder} holds no folders of images; lay it out as {folder}/CLASS/image.jpg, with "
            f"a folder for each class."
        )
    return {
        split: partial(_load_classes, root, class_names, channels) for split, root in roots.items()
    }


def _unlabelled_splits(folder: pathlib.Path, channels: int) -> SplitLoaders:
    roots = _split_folders(folder, labelled=False)
    if "train" not in roots:
        roots = {"train": folder}
    return {
        split: partial(_load_images, root, {"image": ""}, channels) for split, root in roots.items()
    }


def _split_folders(folder: pathlib.Path, labelled: bool) -> dict[str, pathlib.Path]:
    """{split: folder/train, ...}; if labelled, only of folders with class folders in them."""
    roots: dict[str, pathlib.Path] = {}
    for split, names in SPLIT_FOLDERS.items():
        candidates = [folder / name for name in names if (folder / name).is_dir()]
        candidates = [root for root in candidates if _subfolders(root) or not labelled]
        if len(candidates) > 1:
            raise InputError(
                f"{candidates[0]} and {candidates[1]} both hold {split} images; keep one."
            )
        if candidates:
            roots[split] = candidates[0]
    return roots


def _subfolders(folder: pathlib.Path) -> tuple[str, ...]:
    """Sorted names of the folders in a folder, without hidden ones and those of archivers."""
    names = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return tuple(sorted(name for name in names if not name.startswith(_HIDDEN)))


def _load_classes(folder: pathlib.Path, class_names: tuple[str, ...], channels: int) -> Examples:
    unknown = set(_subfolders(folder)) - set(class_names)
    if unknown:
        name = min(unknown)
        raise InputError(
            f"{folder} has a class {name!r} which the other images do not have"
            f"{did_you_mean(name, class_names)}"
        )
    return _load_images(folder, {name: name for name in class_names}, channels)


def _load_images(folder: pathlib.Path, classes: Mapping[str, str], channels: int) -> Examples:
    """All images below folder/PATH, for each {class: PATH}."""
    files: list[str] = []
    labels: list[int] = []
    unsupported = 0
    for label, path in enumerate(classes.values()):
        names = _files_below(folder / path)
        images = [name for name in names if name.lower().endswith(SUFFIXES)]
        files += images
        labels += [label] * len(images)
        unsupported += sum(name.lower().endswith(UNSUPPORTED) for name in names)
    if unsupported:
        suffixes = ", ".join(UNSUPPORTED)
        print(
            f"Warning: {unsupported} images in {folder} are left out, because they are in formats "
            f"that cannot be read ({suffixes}); convert them."
        )
    if not files:
        layout = ", and lie in a folder for each class" if any(classes.values()) else ""
        raise InputError(
            f"{folder} holds no images; files must end in {', '.join(SUFFIXES)}{layout}."
        )
    paths = tf.constant([os.fsencode(file) for file in files])  # names need not be UTF-8
    return Examples(
        labels=np.array(labels, "int64"),
        class_names=tuple(classes),
        names=tuple(os.fsencode(file).decode(errors="replace") for file in files),
        read=lambda index: decode_image(tf.io.read_file(paths[index]), channels),
    )


def _files_below(folder: pathlib.Path) -> list[str]:
    """Sorted paths of all files below a folder, without hidden files and folders."""
    paths: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(_HIDDEN)]
        paths += [os.path.join(parent, file) for file in files if not file.startswith(".")]
    return sorted(paths)
