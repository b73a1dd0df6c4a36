"""Model + image files -> class names with probabilities."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from training.data.image_files import decode
from vit_keras.model import ViT


def predict(model: ViT, path: str, top: int) -> list[tuple[str | int, float]]:
    """Classifies one image file.

    Args:
        model: ViT with classes.
        path: of the image.
        top: how many classes to return.

    Returns:
        (class name, probability) of the most probable classes, the most probable first. Classes
        without names are numbers.

    Raises:
        InputError: if the file cannot be read as an image.
    """
    images = model.preprocessing(decode(path, model.config.channels))[tf.newaxis]
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model(images)))[0]
    names: Sequence[str | int] = model.class_names or range(len(probabilities))
    ranked = sorted(
        zip(names, map(float, probabilities), strict=True),
        key=lambda name_and_probability: -name_and_probability[1],
    )
    return ranked[:top]
