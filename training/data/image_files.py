"""Path, folder or glob -> image files, decoded."""

import glob
import os
import pathlib

import tensorflow as tf

from vit_keras.images.decoding import SUFFIXES, decode_image, why_undecodable
from vit_keras.utils.errors import InputError


def find_images(pattern):
    """A file, a folder (searched through) or a glob -> paths, in order.

    Raises:
        InputError: where there is no image.
    """
    if os.path.isdir(pattern):
        files = (path for path in pathlib.Path(pattern).rglob("*") if path.is_file())
        found = sorted(str(path) for path in files if path.suffix.lower() in SUFFIXES)
    elif os.path.exists(pattern):
        found = [pattern]
    else:
        found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise InputError(f"no image at {pattern}; files end in {', '.join(SUFFIXES)}.")
    return found


def decode(path, channels):
    """An image file -> uint8 tensor (height, width, channels), upright.

    Raises:
        InputError: where the file cannot be read as an image.
    """
    try:
        return decode_image(tf.io.read_file(os.fsencode(path)), channels)
    except tf.errors.OpError as error:
        raise InputError(f"{path}: {why_undecodable(error)}") from error
