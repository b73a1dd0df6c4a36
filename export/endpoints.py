"""ViT -> the functions that artefacts are made of."""

import keras
import tensorflow as tf

from vit_keras.explain import attention_rollout
from vit_keras.model import HEADS


def pixel_classifier(model, preprocess, attention, batch):
    """What artefacts compute that take images of the model's size.

    Args:
        model: ViT.
        preprocess: "in-graph", for uint8 pixels, 0..255, or "none", for float32, normalised.
        attention: whether they also tell what the model attends to.
        batch: images at a time, or None for any number.

    Returns:
        a function of images (batch, height, width, channels) that gives {"probabilities": float32
        (batch, classes), and, if asked for, "attention": float32 (batch, rows, columns), see
        `attention_rollout`}; and the TensorSpec of its argument, named `images`.
    """
    in_graph = preprocess == "in-graph"

    def answer(images):
        normalised = model.preprocessing.normalise(images) if in_graph else images
        answers = {"probabilities": tf.nn.softmax(model(normalised))}
        if attention:
            answers["attention"] = attention_rollout(model, normalised)
        return answers

    shape = (batch, *model.input_shape[1:])
    return answer, tf.TensorSpec(shape, "uint8" if in_graph else "float32", "images")


def embedder(model):
    """Model of the same input -> what its head reads, (batch, width); of two heads the mean."""
    heads = HEADS if model.config.distilled else HEADS[:1]
    pooled = [model.get_layer(name).input for name in heads]
    output = keras.layers.Average()(pooled) if len(pooled) > 1 else pooled[0]
    return keras.Model(model.input, output)
