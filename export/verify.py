"""Artefact + sample images -> how far its answers are from Keras's."""

import dataclasses
import pathlib

import keras
import numpy as np
import tensorflow as tf

from vit_keras.decoding import SUFFIXES, decode_image, why_undecodable
from vit_keras.errors import InputError

LARGEST_SAMPLE = 64  # images


@dataclasses.dataclass(frozen=True)
class Samples:
    """Real images in the forms that artefacts take, and the Keras model's answers.

    Attributes:
        encoded: the bytes of `count` image files.
        decoded: uint8 arrays (height, width, channels) of any size, the same images.
        pixels: uint8 (count, height, width, channels), the same at the model's size.
        images: float32 of that shape: `pixels`, normalised.
        expected: the answers, float32 (count, classes): "files", probabilities for `encoded` and
            `decoded`; "pixels", probabilities for `pixels`; "logits", for `images`.
    """

    encoded: list[bytes]
    decoded: list[np.ndarray]
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
            decoded.append(decode_image(content, model.preprocessing.channels).numpy())
        except tf.errors.InvalidArgumentError as error:
            reason = why_undecodable(error)
            raise InputError(f"{files[index]} cannot be read as an image: {reason}") from error
    spec = model.preprocessing
    sized = np.stack([spec.to_size(image) for image in decoded])
    pixels = sized.round().clip(0, 255).astype("uint8")
    images = np.asarray(spec.normalise(pixels))
    logits = model.predict(images, verbose=0)
    from_files = model.predict(np.asarray(spec.normalise(sized)), verbose=0)
    expected = {"files": _softmax(from_files), "pixels": _softmax(logits), "logits": logits}
    return Samples(encoded, decoded, pixels, images, expected)


def compare(answers, samples):
    """Differences between an artefact's answers and Keras's.

    Args:
        answers: [(key of samples.expected, (count, classes)), ...].
        samples: Samples.

    Returns:
        (the largest absolute difference, of logits in units of the largest logit if that is
        above 1; the fraction of images with the same most probable class).
    """
    differences, agreements = [], []
    for key, got in answers:
        expected = samples.expected[key]
        unit = max(1.0, np.abs(expected).max())
        differences.append(np.abs(got - expected).max() / unit)
        agreements.append((got.argmax(axis=1) == expected.argmax(axis=1)).mean())
    return float(np.max(differences)), float(np.min(agreements))


def _softmax(logits):
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))
