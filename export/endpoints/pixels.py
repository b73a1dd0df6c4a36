"""Model -> the function of .tflite and .onnx files: images of the model's size to answers."""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from export.endpoints import endpoints_of
from export.options import Options
from vit_keras.images.preprocessing import Preprocessing


def pixel_function(
    model: keras.Model, options: Options, batch: int | None
) -> tuple[Callable[[tf.Tensor], dict[str, tf.Tensor]], tf.TensorSpec]:
    """What artefacts compute that take images of the model's size.

    Args:
        model: the model as exported.
        options: Options; preprocess, input_type, attention and embed are used.
        batch: images per call, or None for any number.

    Returns:
        a function of images (batch, height, width, channels) that returns {name: tensor}, for a ViT
        with classes {"probabilities": float32 (batch, classes)} and with options.attention
        {"attention": float32 (batch, rows, columns)}, with options.embed {"embedding": float32
        (batch, width)}; and the TensorSpec of its argument, which is
        called `images`.
    """
    endpoints = endpoints_of(model)
    more = endpoints.saved_model_extras(model, options) if options.embed else []
    extras = {extra.output: extra.build() for extra in endpoints.extras(model, options) + more}
    in_graph = options.preprocess == "in-graph"
    input_type = options.input_type if in_graph else "float32"

    def answer(images):
        normalised = model.preprocessing.normalise(images) if in_graph else images
        answers = {endpoints.output: endpoints.activate(model(normalised))}
        return answers | {name: function(normalised) for name, function in extras.items()}

    shape = (batch, *model.input_shape[1:])
    return answer, tf.TensorSpec(shape, input_type, "images")


def input_preprocessing(model: keras.Model, options: Options) -> Preprocessing:
    """How images are prepared for float32 inputs of .tflite and .onnx files.

    Args:
        model: the model as exported.
        options: Options; preprocess is used.

    Returns:
        Preprocessing of the model; if the graph normalises, with a mean and std that leave pixels
        as they are, 0 to 255.
    """
    if options.preprocess == "none":
        return model.preprocessing
    channels = model.preprocessing.channels
    return dataclasses.replace(
        model.preprocessing, mean=(0.0,) * channels, std=(1 / 255,) * channels
    )
