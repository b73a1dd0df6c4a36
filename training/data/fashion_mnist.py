"""Fashion-MNIST, or the part of it that comes with this project -> Examples."""

import gzip
import pathlib
from functools import partial

import numpy as np

from training.data.examples import Examples, SplitLoaders
from vit_keras.utils.errors import InputError

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
IDX_PREFIXES = {"train": "train", "test": "t10k"}


def fashion_mini_splits(channels: int, data_dir: str = "") -> SplitLoaders:
    """Returns loaders of 6,000 training and 1,000 test images.

    Args:
        channels: 1, or 3 to repeat the grey values.
        data_dir: unused; the images are part of the project.
    """
    return {split: partial(_load_mini, split, channels) for split in ("train", "test")}


def fashion_mnist_splits(channels: int, data_dir: str = "") -> SplitLoaders:
    """Returns loaders of 60,000 training and 10,000 test images.

    Args:
        channels: 1, or 3 to repeat the grey values.
        data_dir: folder of the idx files; by default that of Debian's package.
    """
    folder = pathlib.Path(data_dir or FASHION_MNIST)
    return {split: partial(_load_idx, folder, split, channels) for split in IDX_PREFIXES}


def read_idx(file: str | pathlib.Path) -> np.ndarray:
    """Reads a gzipped idx file of uint8 values (http://yann.lecun.com/exdb/mnist/).

    Raises:
        InputError: if the file is damaged or has another format.
    """
    try:
        content = gzip.decompress(pathlib.Path(file).read_bytes())
        axes = content[3]
        shape = np.frombuffer(content, ">i4", axes, offset=4)
        return np.frombuffer(content, "uint8", offset=4 + 4 * axes).reshape(shape)
    except (EOFError, IndexError, ValueError, gzip.BadGzipFile) as error:
        raise InputError(f"{file} is not a complete gzipped idx file ({error}).") from error


def _load_mini(split: str, channels: int) -> Examples:
    with np.load(FASHION_MINI) as arrays:
        return _examples(arrays[f"{split}_images"], arrays[f"{split}_labels"], split, channels)


def _load_idx(folder: pathlib.Path, split: str, channels: int) -> Examples:
    kinds = ("images-idx3", "labels-idx1")
    files = [folder / f"{IDX_PREFIXES[split]}-{kind}-ubyte.gz" for kind in kinds]
    for file in files:
        if not file.is_file():
            raise InputError(
                f"{file} is missing. Install Debian's package dataset-fashion-mnist, name "
                f"the folder with --data-dir FOLDER, or use --data tfds:fashion_mnist."
            )
    images, labels = map(read_idx, files)
    return _examples(images, labels, split, channels)


def _examples(images: np.ndarray, labels: np.ndarray, split: str, channels: int) -> Examples:
    pixels = np.repeat(images[..., np.newaxis], channels, axis=-1)
    names = [f"{split}/{index}" for index in range(len(labels))]
    return Examples.from_pixels(pixels, labels, FASHION_CLASSES, names)
