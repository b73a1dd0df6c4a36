"""ViTConfig -> files that classify an image: this project's and its peers'.

Each takes one uint8 image, (1, height, width, channels), and gives its probabilities, with static
shapes and, where no other type is named, in float32; normalisation and softmax are inside. Biases,
norms, tokens and positions are as random as kernels, for converters leave out what adds zero or
multiplies by one. timm's model has the weights of ours.

Packages are imported where they are used: one that is missing takes away its own rows alone, and
torch and TensorFlow, which do not go together in a process, do not meet.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from benchmarks.runtimes import COMPARED, random_pixels


def ours(config, merge_tokens=0):
    """This project's model as it is exported"""
    from export.export import exportable
    from vit_keras.model import build_vit

    return exportable(build_vit(config), merge_tokens)


def keras_hub(config):
    """KerasHub's model, with what `convert` asks a ViT for"""
    from benchmarks.peers import keras_hub_vit
    from vit_keras.model import default_preprocessing

    model = keras_hub_vit(config)
    model.preprocessing, model.class_names = default_preprocessing(config), ()
    return model


def tflite(config, folder, build=ours, **options):
    """Through this project's export; `options` are those of `convert`."""
    from export.tflite.convert import convert

    model, path = randomised(build(config)), folder / "model.tflite"
    convert(model, path, **options)
    return path, model


def merged(count):
    """So many tokens merged in each block, through this project's export"""
    return functools.partial(tflite, build=functools.partial(ours, merge_tokens=count))


def saved_model(config, folder):
    """Through this project's export; `serve_logits` leaves normalisation and softmax to others."""
    from export.options import Options
    from export.saved_model.writer import write_saved_model

    model, path = randomised(ours(config)), folder / "saved_model"
    write_saved_model(model, path, Options())
    return path, model


def quantised(kind, config, folder):
    """In fewer bits, through this project's export"""
    from export.formats import KINDS

    source, model = tflite(config, folder)
    path = folder / "quantised.tflite"
    KINDS[kind](source, path, None, None)
    return path, model


def ours_onnx(config, folder):
    """Through this project's export"""
    from export.onnx.convert import convert
    from export.options import Options

    model, path = randomised(ours(config)), folder / "model.onnx"
    convert(model, path, Options(batch=1))
    return path, model


def plain_onnx(config, folder):
    """Our model as tf2onnx leaves it"""
    import tensorflow as tf
    import tf2onnx

    model, path = randomised(ours(config)), folder / "model.onnx"
    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.uint8, "images")

    @tf.function(input_signature=[spec])
    def classify(images):
        return tf.nn.softmax(model(model.preprocessing.normalise(images)))

    tf2onnx.convert.from_function(classify, [spec], opset=18, output_path=str(path))
    return path, model


def timm_onnx(config, folder):
    """timm's own export"""
    model, classifier, image = _timm(config, folder)
    from timm.utils.onnx import onnx_export

    path = folder / "model.onnx"
    onnx_export(classifier, str(path), example_input=image)
    return path, model


def timm_tflite(config, folder):
    """timm's model through litert-torch"""
    model, classifier, image = _timm(config, folder)
    import litert_torch

    path = folder / "model.tflite"
    litert_torch.convert(classifier, (image,)).export(str(path))
    return path, model


def _timm(config, folder):
    """-> our model; timm's with its weights, uint8 to probabilities, in torch; an image for it"""
    import torch

    from benchmarks.timm_vit import load_classifier
    from vit_keras.weights.save import save_weights

    model = randomised(ours(config))
    save_weights(model, folder / "timm", "timm")
    image = torch.from_numpy(random_pixels(1, model.input_shape[1:]))
    return model, load_classifier(folder / "timm"), image


@dataclasses.dataclass(frozen=True)
class Artefact:
    """A row of ARTEFACTS.

    Attributes:
        write: (ViTConfig, folder) -> (path of what it wrote there, the Keras model behind it).
        runtimes: rows of RUNTIMES which run it.
        backend: Keras's, while it is written.
    """

    write: Callable
    runtimes: tuple[str, ...]
    backend: str = "tensorflow"


# Adding a contestant: one row here, functools.partial(tflite, ...) for other options or models.
OURS = "ours, .tflite"
ARTEFACTS = {
    OURS: Artefact(tflite, ("LiteRT",)),
    "ours, 8 tokens merged, .tflite": Artefact(merged(8), ("LiteRT",)),
    "ours, 13 tokens merged, .tflite": Artefact(merged(13), ("LiteRT",)),
    "ours, 16 tokens merged, .tflite": Artefact(merged(16), ("LiteRT",)),
    "KerasHub, .tflite": Artefact(functools.partial(tflite, build=keras_hub), ("LiteRT",)),
    "timm, .tflite": Artefact(timm_tflite, ("LiteRT",), "torch"),
    "ours, dynamic int8 .tflite": Artefact(functools.partial(quantised, "dynamic"), ("LiteRT",)),
    "ours, .onnx": Artefact(ours_onnx, ("onnxruntime", "OpenVINO")),
    "ours through tf2onnx alone, .onnx": Artefact(plain_onnx, ("onnxruntime",)),
    "timm, .onnx": Artefact(timm_onnx, ("onnxruntime", "OpenVINO"), "torch"),
    "ours, SavedModel": Artefact(saved_model, ("TensorFlow", "TensorFlow with XLA")),
}


def write_artefact(artefact, fields, folder):
    """Writes it, of a ViTConfig's fields -> (path, its Keras model's logits for random pixels)"""
    from vit_keras.config import ViTConfig  # needs the backend

    path, model = artefact.write(ViTConfig(**fields), folder)
    images = model.preprocessing.normalise(random_pixels(COMPARED, model.input_shape[1:]))
    return path, model.predict(images, verbose=0)


def randomised(model):
    """The model with seeded noise on every weight"""
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(random.normal(scale=0.05, size=weight.shape).astype("float32"))
    return model
