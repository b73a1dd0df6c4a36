"""Model + image files -> class names with probabilities."""

import glob
import os
import pathlib

import keras
import tensorflow as tf

from vit_keras.decoding import SUFFIXES, decode_image
from vit_keras.errors import InputError


def find_images(patterns):
    """Files, folders (searched through) and globs -> paths, in order and without duplicates.

    Raises:
        InputError: where a folder or glob holds no image, or a file does not exist.
    """
    paths: dict[str, None] = {}  # in order, without duplicates
    for pattern in patterns:
        if os.path.isdir(pattern):
            found = sorted(
                str(path)
                for path in pathlib.Path(pattern).rglob("*")
                if path.suffix.lower() in SUFFIXES and path.is_file()
            )
        elif os.path.exists(pattern):
            found = [pattern]
        else:
            found = sorted(glob.glob(pattern, recursive=True))
        if not found:
            raise InputError(f"no image at {pattern}; files end in {', '.join(SUFFIXES)}.")
        paths |= dict.fromkeys(found)
    return list(paths)


def predict(model, path, top):
    """The most probable classes of one image file.

    Returns:
        [(class name, probability), ...], `top` of them, the most probable first.

    Raises:
        InputError: where the file cannot be read as an image.
    """
    try:
        image = decode_image(tf.io.read_file(path), model.config.channels)
    except tf.errors.OpError as error:
        reason = error.message.split("}} ")[-1].split(" [Op:")[0].strip()
        raise InputError(f"{path}: {reason}") from error
    images = model.preprocessing(image)[tf.newaxis]
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model(images)))[0]
    names = model.class_names or range(len(probabilities))
    ranked = sorted(zip(names, map(float, probabilities), strict=True), key=lambda p: -p[1])
    return ranked[:top]
