"""Dataset name or folder -> labelled images that can be read in any order, split in three."""

import gzip
import os
import pathlib
from functools import partial

import numpy as np
import tensorflow as tf

from training.data.examples import Examples
from training.data.tfds import tfds_splits
from vit_keras.images.decoding import SUFFIXES, decode_image
from vit_keras.utils.errors import InputError, did_you_mean

FASHION_MINI = pathlib.Path(__file__).parent / "fashion_mini" / "fashion_mini.npz"
FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")  # Debian's package
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
UNSUPPORTED = (".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2")
_HIDDEN = (".", "__")  # folders of archivers and file managers start so
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def find_splits(data, channels, splits=None, data_dir="", labelled=True):
    """Finds the training, validation and test images of a dataset.

    Args:
        data: `fashion_mini`, `fashion_mnist`, `tfds:NAME`, or a folder which holds CLASS/image
            files, or {train,val,test}/CLASS/image files (or training, valid, validation, testing).
        channels: 1 to read the images as grey, 3 as RGB.
        splits: for TFDS: {"train": ..., "validation": ..., "test": ...} as TFDS spells them;
            an empty or missing one is taken by its usual name where it exists.
        data_dir: for TFDS and `fashion_mnist`: where their files are.
        labelled: whether a folder's images are told apart by the folders they lie in; otherwise
            they may lie anywhere in it, and are all of one class.

    Returns:
        {"train": function() -> Examples, "validation": ..., "test": ...}, those that exist. Only
        the call reads anything large.

    Raises:
        InputError: for an unknown name, and a folder without images of classes.
    """
    if data == "fashion_mini":
        return {split: partial(_fashion_mini, split, channels) for split in ("train", "test")}
    if data == "fashion_mnist":
        folder = pathlib.Path(data_dir or FASHION_MNIST)
        return {
            split: partial(_fashion_mnist, folder, prefix, split, channels)
            for split, prefix in (("train", "train"), ("test", "t10k"))
        }
    if data.startswith("tfds:"):
        return tfds_splits(data.removeprefix("tfds:"), channels, splits or {}, data_dir or None)
    return _folder_splits(pathlib.Path(data), channels, labelled)


def read_idx(file):
    """A gzipped idx file, as MNIST's -> uint8 array (http://yann.lecun.com/exdb/mnist/).

    Raises:
        InputError: where the file is not one.
    """
    try:
        content = gzip.decompress(pathlib.Path(file).read_bytes())
        axes = content[3]
        shape = np.frombuffer(content, ">i4", axes, offset=4)
        return np.frombuffer(content, "uint8", offset=4 + 4 * axes).reshape(shape)
    except (EOFError, IndexError, ValueError, gzip.BadGzipFile) as error:
        raise InputError(f"{file} is not a whole gzipped idx file ({error}).") from error


def _fashion_mini(split, channels):
    with np.load(FASHION_MINI) as arrays:
        return _fashion(arrays[f"{split}_images"], arrays[f"{split}_labels"], split, channels)


def _fashion_mnist(folder, prefix, split, channels):
    files = [folder / f"{prefix}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    for file in files:
        if not file.is_file():
            raise InputError(
                f"{file} is missing. Install Debian's package dataset-fashion-mnist, name "
                f"the folder with --data-dir FOLDER, or use --data tfds:fashion_mnist."
            )
    images, labels = map(read_idx, files)
    return _fashion(images, labels, split, channels)


def _fashion(images, labels, split, channels):
    pixels = np.repeat(images[..., np.newaxis], channels, axis=-1)
    names = [f"{split}/{index}" for index in range(len(labels))]
    return Examples.from_pixels(pixels, labels, FASHION_CLASSES, names)


def _folder_splits(folder, channels, labelled):
    if not folder.is_dir():
        known = ("fashion_mini", "fashion_mnist", "tfds:NAME")
        raise InputError(f"no such dataset or folder: {folder}. Datasets: {', '.join(known)}.")
    roots = _split_roots(folder, labelled) or {"train": folder}
    if not labelled:
        roots = roots if "train" in roots else {"train": folder}
        classes = {"image": ""}
        return {
            split: partial(_read_folders, root, classes, channels) for split, root in roots.items()
        }
    class_names = _folders(next(iter(roots.values())))
    if not class_names:
        raise InputError(
            f"{folder} holds no folders of images; lay it out as {folder}/CLASS/image.jpg, with "
            f"a folder for each class."
        )
    return {
        split: partial(_folder_split, root, class_names, channels) for split, root in roots.items()
    }


def _split_roots(folder, labelled):
    """{split: folder} for folder/{train,val,test}, with folders of classes in them if labelled"""
    roots: dict[str, pathlib.Path] = {}
    for split, names in SPLIT_FOLDERS.items():
        found = [folder / name for name in names if (folder / name).is_dir()]
        found = [root for root in found if _folders(root) or not labelled]
        if len(found) > 1:
            raise InputError(f"{found[0]} and {found[1]} both hold {split} images; keep one.")
        if found:
            roots[split] = found[0]
    return roots


def _folders(folder):
    """Names of the folders in a folder, sorted, without hidden ones and those of archivers."""
    names = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return tuple(sorted(name for name in names if not name.startswith(_HIDDEN)))


def _folder_split(folder, class_names, channels):
    unknown = set(_folders(folder)) - set(class_names)
    if unknown:
        name = min(unknown)
        raise InputError(
            f"{folder} has a class {name!r} which the other images do not have"
            f"{did_you_mean(name, class_names)}"
        )
    return _read_folders(folder, {name: name for name in class_names}, channels)


def _read_folders(folder, classes, channels):
    """All images below folder/PATH for each {class: PATH}"""
    files, labels, others = [], [], 0
    for label, path in enumerate(classes.values()):
        names = []
        for parent, folders, inside in os.walk(folder / path):
            folders[:] = [name for name in folders if not name.startswith(_HIDDEN)]
            names += [os.path.join(parent, file) for file in inside if not file.startswith(".")]
        names.sort()
        found = [name for name in names if name.lower().endswith(SUFFIXES)]
        files += found
        labels += [label] * len(found)
        others += sum(name.lower().endswith(UNSUPPORTED) for name in names)
    if others:
        kinds = ", ".join(UNSUPPORTED)
        print(f"Warning: {others} images in {folder} are left out ({kinds}): convert them.")
    if not files:
        apart = " and, to be told apart, lie in a folder for each class" * any(classes.values())
        raise InputError(
            f"{folder} holds no images; files must end in {', '.join(SUFFIXES)}{apart}."
        )
    paths = tf.constant([os.fsencode(file) for file in files])  # names need not be UTF-8
    return Examples(
        np.array(labels, "int64"),
        tuple(classes),
        tuple(os.fsencode(file).decode(errors="replace") for file in files),
        lambda index: decode_image(tf.io.read_file(paths[index]), channels),
    )
