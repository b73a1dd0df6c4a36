"""Path, folder or glob -> image files, decoded."""

import glob
import os
import pathlib

import tensorflow as tf

from vit_keras.images.decoding import SUFFIXES, decode_image, why_undecodable
from vit_keras.utils.errors import InputError


def find_images(pattern: str) -> list[str]:
    """Finds image files.

    Args:
        pattern: a file, a folder, whose subfolders are searched too, or a glob.

    Returns:
        Sorted paths.

    Raises:
        InputError: if there is no image.
    """
    if os.path.isdir(pattern):
        files = (path for path in pathlib.Path(pattern).rglob("*") if path.is_file())
        paths = sorted(str(path) for path in files if path.suffix.lower() in SUFFIXES)
    elif os.path.exists(pattern):
        paths = [pattern]
    else:
        paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise InputError(f"no image at {pattern}; files end in {', '.join(SUFFIXES)}.")
    return paths


def decode(path: str, channels: int) -> tf.Tensor:
    """Decodes an image file.

    Args:
        path: of the file.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 (height, width, channels), upright.

    Raises:
        InputError: if the file cannot be read as an image.
    """
    try:
        return decode_image(tf.io.read_file(os.fsencode(path)), channels)
    except tf.errors.OpError as error:
        raise InputError(f"{path}: {why_undecodable(error)}") from error
