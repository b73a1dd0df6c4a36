"""TFDS data set -> labelled images that can be read in any order."""

import pathlib
import urllib.parse
from functools import partial

import numpy as np
import psutil
import tensorflow as tf

from training.data.examples import Examples
from vit_keras.images.decoding import decode_image
from vit_keras.utils.errors import InputError, first_line
from vit_keras.utils.files import replacing

SPLITS = ("train", "validation", "test")


def tfds_splits(name, channels, splits, data_dir):
    """Finds the splits of a TFDS dataset, as `find_splits` does, and prepares it if needed."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
        builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"TFDS knows no dataset {name!r}: {first_line(error)}") from error
    except (OSError, ValueError, AssertionError, tfds.download.DownloadError) as error:
        raise InputError(f"TFDS cannot prepare {name!r}: {first_line(error)}") from error
    features = dict(builder.info.features)
    classes = features.get("label")
    if "image" not in features or not isinstance(classes, tfds.features.ClassLabel):
        raise InputError(
            f"tfds:{name} is not for classification: its features are {', '.join(features)}; "
            f"an 'image' and a 'label' out of named classes are needed."
        )
    spelled = {
        split: splits.get(split) or (split if split in builder.info.splits else None)
        for split in SPLITS
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
        raise InputError(f"TFDS has no split {split!r}: {first_line(error)}") from error
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
