"""Artefact + sample images -> how far its answers are from Keras's."""

import dataclasses
import pathlib

import keras
import numpy as np
import tensorflow as tf

from vit_keras.decoding import SUFFIXES, decode_image
from vit_keras.errors import InputError

LARGEST_SAMPLE = 64  # images


@dataclasses.dataclass(frozen=True)
class Samples:
    """Real images in the forms that artefacts take, and the Keras model's answers.

    Attributes:
        encoded: the bytes of `count` image files.
        pixels: uint8 (count, height, width, channels), those images at the model's size.
        images: float32 of the same shape: `pixels`, normalised.
        expected: {"encoded", "pixels", "images": float32 (count, classes)}, probabilities; those
            for `pixels` are of images which happen to have that size, and may be cropped again.
    """

    encoded: list[bytes]
    pixels: np.ndarray
    images: np.ndarray
    expected: dict[str, np.ndarray]


def load_samples(model, folder):
    """Reads up to 64 image files from a folder, and asks the Keras model about them.

    Raises:
        InputError: where the folder holds no image, or one that cannot be decoded.
    """
    folder = pathlib.Path(folder)
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(
            f"{folder} holds no images to verify the export on; name a folder of images like "
            f"those the model was trained on with --images FOLDER."
        )
    chosen = np.unique(np.linspace(0, len(files) - 1, LARGEST_SAMPLE).round().astype(int))
    encoded = [files[index].read_bytes() for index in chosen]
    decoded = []
    for index, content in zip(chosen, encoded, strict=True):
        try:
            decoded.append(decode_image(tf.constant(content), model.preprocessing.channels))
        except tf.errors.InvalidArgumentError as error:
            raise InputError(f"{files[index]} cannot be read as an image.") from error
    fitted = np.stack([model.preprocessing.fit(image) for image in decoded])
    pixels = fitted.round().clip(0, 255).astype("uint8")
    images = np.asarray(model.preprocessing.normalise(pixels))
    inputs = {
        "encoded": np.stack([model.preprocessing(image) for image in decoded]),
        "pixels": np.asarray(model.preprocessing(pixels)),
        "images": images,
    }
    expected = {kind: _probabilities(model, array) for kind, array in inputs.items()}
    return Samples(encoded, pixels, images, expected)


def compare(probabilities, samples):
    """Differences between an artefact's answers and Keras's.

    Args:
        probabilities: {kind of sample: (count, classes)}.
        samples: Samples.

    Returns:
        (the largest absolute difference of a probability, the fraction of images with the same
        most probable class).
    """
    differences, agreements = [], []
    for kind, got in probabilities.items():
        expected = samples.expected[kind]
        differences.append(np.abs(got - expected).max())
        agreements.append((got.argmax(axis=1) == expected.argmax(axis=1)).mean())
    return float(np.max(differences)), float(np.min(agreements))


def _probabilities(model, images):
    return keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(images, verbose=0)))
