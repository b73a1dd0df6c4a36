"""ViT -> the functions that artefacts are made of."""

import keras
import tensorflow as tf

from vit_keras.explain import attention_rollout


def classify(model, images, attention=False):
    """What artefacts say about images.

    Args:
        model: ViT.
        images: float32 (batch, height, width, channels), normalised.
        attention: whether it also tells what it attended to.

    Returns:
        {"probabilities": float32 (batch, classes), "attention": where it was asked for, float32
        (batch, rows, columns), how much each patch counts: see `attention_rollout`}.
    """
    answers = {"probabilities": tf.nn.softmax(model(images))}
    if attention:
        answers["attention"] = attention_rollout(model, images)
    return answers


def pixel_classifier(model, preprocess, attention, batch):
    """`classify` for artefacts that take images of the model's size.

    Args:
        preprocess: "in-graph", for uint8 pixels, 0..255, or "none", for float32, normalised.
        batch: images at a time, or None for any number.

    Returns:
        the function, and the TensorSpec of its argument, named `images`.
    """
    in_graph = preprocess == "in-graph"

    def answer(images):
        normalised = model.preprocessing.normalise(images) if in_graph else images
        return classify(model, normalised, attention)

    shape = (batch, *model.input_shape[1:])
    return answer, tf.TensorSpec(shape, "uint8" if in_graph else "float32", "images")


def embedder(model):
    """Model of the same input -> what its head reads, (batch, width); of two heads the mean."""
    heads = ("head", "head_dist") if model.config.distilled else ("head",)
    pooled = [model.get_layer(name).input for name in heads]
    output = keras.layers.Average()(pooled) if len(pooled) > 1 else pooled[0]
    return keras.Model(model.input, output)
