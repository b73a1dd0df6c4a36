"""Dataset name or folder -> labelled images that can be read in any order, split in three."""

import dataclasses
import gzip
import os
import pathlib
import urllib.parse
from collections.abc import Callable
from functools import partial

import numpy as np
import psutil
import tensorflow as tf

from vit_keras.decoding import SUFFIXES, decode_image
from vit_keras.errors import InputError, did_you_mean
from vit_keras.files import replacing

FASHION_MINI = pathlib.Path(__file__).parent / "data" / "fashion_mini.npz"
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
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled images that can be read in any order.

    Attributes:
        labels: int64 (count,), indices into class_names.
        class_names: of every class, in the order of the labels.
        names: of every image, for reports: a path, or a split and index.
        read: int64 scalar tensor, an index -> uint8 (height, width, channels); TensorFlow
            operations alone, so that it runs in parallel inside tf.data.
        pixels: uint8 (count, height, width, channels) where all images have one shape and are in
            memory, else None.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    read: Callable[[tf.Tensor], tf.Tensor]
    pixels: np.ndarray | None = None

    def __len__(self):
        return len(self.labels)

    def subset(self, indices):
        """Only the examples at these indices, in this order."""
        chosen = tf.constant(indices, tf.int64)
        return dataclasses.replace(
            self,
            labels=self.labels[indices],
            names=tuple(self.names[i] for i in indices),
            read=lambda index: self.read(chosen[index]),
            pixels=None if self.pixels is None else self.pixels[indices],
        )

    def with_classes(self, class_names):
        """The same examples with labels that are indices into other class names.

        Raises:
            InputError: for a class that is not among them.
        """
        for name in self.class_names:
            if name not in class_names:
                raise InputError(
                    f"the model knows no class {name!r}{did_you_mean(name, class_names)}"
                )
        index = np.array([class_names.index(name) for name in self.class_names], "int64")
        return dataclasses.replace(self, labels=index[self.labels], class_names=tuple(class_names))

    @classmethod
    def from_pixels(cls, pixels, labels, class_names, names):
        """From uint8 images (count, height, width, channels) in memory."""
        tensor = tf.constant(pixels)
        return cls(np.asarray(labels, "int64"), tuple(class_names), tuple(names),
                   lambda index: tensor[index], pixels)  # fmt: skip


def find_splits(data, channels, splits=None, data_dir=""):
    """Finds the training, validation and test images of a dataset.

    Args:
        data: `fashion_mini`, `fashion_mnist`, `tfds:NAME`, or a folder which holds CLASS/image
            files, or {train,val,test}/CLASS/image files (or training, valid, validation, testing).
        channels: 1 to read the images as grey, 3 as RGB.
        splits: for TFDS: {"train": ..., "validation": ..., "test": ...} as TFDS spells them;
            an empty or missing one is taken by its usual name where it exists.
        data_dir: for TFDS and `fashion_mnist`: where their files are.

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
        return _tfds_splits(data.removeprefix("tfds:"), channels, splits or {}, data_dir or None)
    return _folder_splits(pathlib.Path(data), channels)


def split_off(examples, fraction, seed):
    """Divides examples in two, class by class: (the rest, `fraction` of them, at least one each).

    Raises:
        InputError: where a class has a single image.
    """
    random = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(examples.class_names):
        members = np.flatnonzero(examples.labels == label)
        if len(members) < 2:
            raise InputError(
                f"class {name!r} has {len(members)} image(s); training and validation need one "
                f"each. Add images, or remove the class."
            )
        count = max(1, round(fraction * len(members)))
        chosen.append(random.permutation(members)[:count])
    split = np.sort(np.concatenate(chosen))
    rest = np.setdiff1d(np.arange(len(examples)), split)
    return examples.subset(rest), examples.subset(split)


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


def _tfds_splits(name, channels, splits, data_dir):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
        builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"TFDS knows no dataset {name!r}: {_first_line(error)}") from error
    except (OSError, ValueError, AssertionError, tfds.download.DownloadError) as error:
        raise InputError(f"TFDS cannot prepare {name!r}: {_first_line(error)}") from error
    features = dict(builder.info.features)
    classes = features.get("label")
    if "image" not in features or not isinstance(classes, tfds.features.ClassLabel):
        raise InputError(
            f"tfds:{name} is not for classification: its features are {', '.join(features)}; "
            f"an 'image' and a 'label' out of named classes are needed."
        )
    spelled = {
        split: splits.get(split) or (split if split in builder.info.splits else None)
        for split in SPLIT_FOLDERS
    }
    return {
        split: partial(_tfds_split, builder, spelling, channels)
        for split, spelling in spelled.items()
        if spelling
    }


def _tfds_split(builder, split, channels):
    """The images of a split, still encoded: in memory, or in files where they do not fit."""
    import tensorflow_datasets as tfds

    try:
        dataset = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    except (ValueError, KeyError) as error:
        raise InputError(f"TFDS has no split {split!r}: {_first_line(error)}") from error
    names = tuple(builder.info.features["label"].names)
    if builder.info.dataset_size > psutil.virtual_memory().available / 2:
        folder = pathlib.Path(builder.data_path, f"images-{urllib.parse.quote(split, safe='')}")
        return _unpacked(dataset, folder, names, channels)
    examples = [(e["image"], e["label"]) for e in dataset.as_numpy_iterator()]
    encoded = tf.constant([image for image, _ in examples], tf.string)
    return Examples(
        np.array([label for _, label in examples], "int64"),
        names,
        tuple(f"{split}/{index}" for index in range(len(examples))),
        lambda index: decode_image(encoded[index], channels),
    )


def _unpacked(dataset, folder, class_names, channels):
    """A TFDS split as a file for each image, LABEL/NUMBER, written once: read as they are needed"""
    if not folder.exists():
        print(f"Unpacking images into {folder}, once ...", flush=True)
        with replacing(folder) as temporary:
            for label in range(len(class_names)):
                (temporary / str(label)).mkdir(parents=True)
            for number, example in enumerate(dataset.as_numpy_iterator()):
                file = temporary / str(example["label"]) / str(number)
                file.write_bytes(example["image"])
    files = sorted(folder.glob("*/*"), key=lambda file: int(file.name))
    paths = tf.constant(list(map(str, files)))
    return Examples(
        np.array([int(file.parent.name) for file in files], "int64"),
        class_names,
        tuple(map(str, files)),
        lambda index: decode_image(tf.io.read_file(paths[index]), channels),
    )


def _folder_splits(folder, channels):
    if not folder.is_dir():
        known = ("fashion_mini", "fashion_mnist", "tfds:NAME")
        raise InputError(f"no such dataset or folder: {folder}. Datasets: {', '.join(known)}.")
    roots = _split_roots(folder) or {"train": folder}
    class_names = _folders(next(iter(roots.values())))
    if not class_names:
        raise InputError(
            f"{folder} holds no folders of images; lay it out as {folder}/CLASS/image.jpg, with "
            f"a folder for each class."
        )
    return {
        split: partial(_folder_split, root, class_names, channels) for split, root in roots.items()
    }


def _split_roots(folder):
    """{split: folder} for folder/{train,val,test}/CLASS/; empty where there are no such folders"""
    roots: dict[str, pathlib.Path] = {}
    for split, names in SPLIT_FOLDERS.items():
        found = [folder / name for name in names if (folder / name).is_dir()]
        found = [root for root in found if _folders(root)]
        if len(found) > 1:
            raise InputError(f"{found[0]} and {found[1]} both hold {split} images; keep one.")
        if found:
            roots[split] = found[0]
    return roots


def _folders(folder):
    """Names of the folders in a folder, sorted, without hidden ones and those of archivers."""
    names = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return tuple(sorted(name for name in names if not name.startswith((".", "__"))))


def _folder_split(folder, class_names, channels):
    unknown = set(_folders(folder)) - set(class_names)
    if unknown:
        name = min(unknown)
        raise InputError(
            f"{folder} has a class {name!r} which the other images do not have"
            f"{did_you_mean(name, class_names)}"
        )
    files, labels = [], []
    for label, name in enumerate(class_names):
        found = sorted(
            os.path.join(parent, file)
            for parent, _, names in os.walk(folder / name)
            for file in names
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        )
        files += found
        labels += [label] * len(found)
    if not files:
        raise InputError(
            f"{folder} holds no images; files must end in {', '.join(SUFFIXES)} and lie in a "
            f"folder for each class."
        )
    paths = tf.constant([os.fsencode(file) for file in files])  # names need not be UTF-8
    return Examples(
        np.array(labels, "int64"),
        class_names,
        tuple(os.fsencode(file).decode(errors="replace") for file in files),
        lambda index: decode_image(tf.io.read_file(paths[index]), channels),
    )


def _first_line(error):
    return str(error).strip().split("\n")[0]
