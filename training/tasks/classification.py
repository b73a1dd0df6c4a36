"""Images -> class probabilities."""

import keras
import numpy as np
import tensorflow as tf

from training.data.pipeline import evaluation_batches

BATCH_SIZE = 64


def predict_probabilities(model, examples, flip=False):
    """float32 (count, classes), the softmax of the model's logits for every example in order.

    Args:
        flip: whether to average those of each image and of its mirror image.
    """
    batches = evaluation_batches(examples, model.preprocessing, BATCH_SIZE)
    images = batches.map(lambda images, labels: images)
    views = [images]
    if flip:
        views.append(images.map(lambda images: tf.reverse(images, axis=[2])))
    logits = [model.predict(view, verbose=0) for view in views]
    return np.mean([keras.ops.softmax(view) for view in logits], axis=0)
