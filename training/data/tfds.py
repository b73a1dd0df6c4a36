"""TFDS dataset -> labelled images that can be read in any order."""

import pathlib
import urllib.parse
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import psutil
import tensorflow as tf

from training.data.examples import SPLITS, Examples, SplitLoaders
from vit_keras.images.decoding import decode_image
from vit_keras.utils.errors import InputError, first_line
from vit_keras.utils.files import replacing


def tfds_splits(
    name: str, channels: int, splits: Mapping[str, str], data_dir: str | None = None
) -> SplitLoaders:
    """Finds the splits of a TFDS dataset, and downloads and prepares it if needed.

    Args:
        name: of the dataset, without `tfds:`.
        channels: 1 to read the images as grey, 3 as RGB.
        splits: {"train": ..., "validation": ..., "test": ...} in TFDS's notation; an empty or
            missing one is the split of that name, if it exists.
        data_dir: of TFDS; None for its default.

    Returns:
        {split: function() -> Examples}.

    Raises:
        InputError: for a dataset that does not exist, cannot be prepared, or has no classes.
    """
    builder = _prepare(name, data_dir)
    notations = {
        split: splits.get(split) or (split if split in builder.info.splits else None)
        for split in SPLITS
    }
    return {
        split: partial(_load_split, builder, notation, channels)
        for split, notation in notations.items()
        if notation
    }


def _prepare(name: str, data_dir: str | None) -> Any:
    """Returns the tfds.core.DatasetBuilder of a dataset for classification."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
        builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"TFDS has no dataset {name!r}: {first_line(error)}") from error
    except (OSError, ValueError, AssertionError, tfds.download.DownloadError) as error:
        raise InputError(f"TFDS cannot prepare {name!r}: {first_line(error)}") from error
    features = dict(builder.info.features)
    if "image" not in features or not isinstance(features.get("label"), tfds.features.ClassLabel):
        raise InputError(
            f"tfds:{name} is not for classification: its features are {', '.join(features)}; "
            f"an 'image' and a 'label' out of named classes are needed."
        )
    return builder


def _load_split(builder: Any, split: str, channels: int) -> Examples:
    """Loads encoded images into memory, or into files if they take more than half of it."""
    import tensorflow_datasets as tfds

    try:
        dataset = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    except (ValueError, KeyError) as error:
        raise InputError(f"TFDS has no split {split!r}: {first_line(error)}") from error
    names = tuple(builder.info.features["label"].names)
    if builder.info.dataset_size > psutil.virtual_memory().available / 2:
        folder = pathlib.Path(builder.data_path, f"images-{urllib.parse.quote(split, safe='')}")
        return _load_files(dataset, folder, names, channels)
    examples = [(example["image"], example["label"]) for example in dataset.as_numpy_iterator()]
    encoded = tf.constant([image for image, _ in examples], tf.string)
    return Examples(
        labels=np.array([label for _, label in examples], "int64"),
        class_names=names,
        names=tuple(f"{split}/{index}" for index in range(len(examples))),
        read=lambda index: decode_image(encoded[index], channels),
    )


def _load_files(
    dataset: tf.data.Dataset, folder: pathlib.Path, class_names: tuple[str, ...], channels: int
) -> Examples:
    """Reads images from files LABEL/NUMBER, which the first call writes."""
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
        labels=np.array([int(file.parent.name) for file in files], "int64"),
        class_names=class_names,
        names=tuple(map(str, files)),
        read=lambda index: decode_image(tf.io.read_file(paths[index]), channels),
    )
