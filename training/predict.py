"""Model + image files -> class names with probabilities."""

import keras
import tensorflow as tf

from training.data.image_files import decode


def predict(model, path, top):
    """The most probable classes of one image file.

    Returns:
        [(class name, probability), ...], `top` of them, the most probable first.

    Raises:
        InputError: where the file cannot be read as an image.
    """
    images = model.preprocessing(decode(path, model.config.channels))[tf.newaxis]
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model(images)))[0]
    names = model.class_names or range(len(probabilities))
    ranked = sorted(zip(names, map(float, probabilities), strict=True), key=lambda p: -p[1])
    return ranked[:top]
