"""ViTConfig -> files that classify an image: this project's and its peers'.

Each takes one uint8 image, (1, height, width, channels), and returns its probabilities, with static
shapes and in float32 unless its name says otherwise; normalisation and softmax are inside. Biases,
norms, tokens and positions are random like kernels, because converters drop what adds zero or
multiplies by one. timm's model has our weights.

Packages are imported where they are used: a missing one removes only its own rows, and torch and
TensorFlow, which cannot share a process, do not meet.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.runtimes import COMPARED, random_pixels

if TYPE_CHECKING:
    import keras
    import torch

    from benchmarks.timm_vit import Classifier
    from vit_keras.config import ViTConfig

Written = tuple[pathlib.Path, "keras.Model"]  # an artefact, and the Keras model it computes
Writer = Callable[["ViTConfig", pathlib.Path], Written]


def ours(config: "ViTConfig", merge_tokens: int = 0) -> "keras.Model":
    """Builds this project's model as it is exported."""
    from export.endpoints import inference_model
    from vit_keras.model import build_vit

    return inference_model(build_vit(config), merge_tokens)


def keras_hub(config: "ViTConfig") -> "keras.Model":
    """Builds KerasHub's model, with the attributes of a ViT that `write_tflite` reads."""
    from benchmarks.peers import keras_hub_vit
    from vit_keras.model import default_preprocessing

    model = keras_hub_vit(config)
    model.task, model.preprocessing = "classification", default_preprocessing(config)
    return model


def tflite(
    config: "ViTConfig",
    folder: pathlib.Path,
    build: Callable[["ViTConfig"], "keras.Model"] = ours,
) -> Written:
    """Writes a .tflite with this project's export."""
    from export.options import Options
    from export.tflite.convert import write_tflite

    model, path = randomised(build(config)), folder / "model.tflite"
    write_tflite(model, path, Options())
    return path, model


def merged(count: int) -> Writer:
    """Returns a writer of a .tflite whose blocks each merge `count` tokens."""
    return functools.partial(tflite, build=functools.partial(ours, merge_tokens=count))


def saved_model(config: "ViTConfig", folder: pathlib.Path) -> Written:
    """Writes a SavedModel with this project's export; `serve_logits` takes normalised images."""
    from export.options import Options
    from export.saved_model.writer import write_saved_model

    model, path = randomised(ours(config)), folder / "saved_model"
    write_saved_model(model, path, Options())
    return path, model


def quantised(kind: str, config: "ViTConfig", folder: pathlib.Path) -> Written:
    """Writes a .tflite and quantises it with this project's export."""
    from export.formats import KINDS
    from export.options import Options
    from export.source import Source

    source, model = tflite(config, folder)
    path = folder / "quantised.tflite"
    KINDS[kind].write(Source(source, model, {}, Options()), path)
    return path, model


def ours_onnx(config: "ViTConfig", folder: pathlib.Path) -> Written:
    """Writes an .onnx with this project's export."""
    from export.onnx.convert import write_onnx
    from export.options import Options

    model, path = randomised(ours(config)), folder / "model.onnx"
    write_onnx(model, path, Options(batch=1))
    return path, model


def plain_onnx(config: "ViTConfig", folder: pathlib.Path) -> Written:
    """Writes an .onnx of this project's model with tf2onnx only."""
    import tensorflow as tf
    import tf2onnx

    model, path = randomised(ours(config)), folder / "model.onnx"
    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.uint8, "images")

    @tf.function(input_signature=[spec])
    def classify(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(model(model.preprocessing.normalise(images)))

    tf2onnx.convert.from_function(classify, [spec], opset=18, output_path=str(path))
    return path, model


def timm_onnx(config: "ViTConfig", folder: pathlib.Path) -> Written:
    """Writes an .onnx of timm's model with timm's own export."""
    model, classifier, image = _timm(config, folder)
    from timm.utils.onnx import onnx_export

    path = folder / "model.onnx"
    onnx_export(classifier, str(path), example_input=image)
    return path, model


def timm_tflite(config: "ViTConfig", folder: pathlib.Path) -> Written:
    """Writes a .tflite of timm's model with litert-torch."""
    model, classifier, image = _timm(config, folder)
    import litert_torch

    path = folder / "model.tflite"
    litert_torch.convert(classifier, (image,)).export(str(path))
    return path, model


def _timm(
    config: "ViTConfig", folder: pathlib.Path
) -> tuple["keras.Model", "Classifier", "torch.Tensor"]:
    """Our model; timm's with the same weights, in torch; a uint8 image for it."""
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
        write: (ViTConfig, folder) -> (path of the artefact in it, the Keras model it computes).
        runtimes: keys of RUNTIMES that run it.
        backend: of Keras, while it is written.
    """

    write: Writer
    runtimes: tuple[str, ...]
    backend: str = "tensorflow"


# A new contestant is one row here; functools.partial(tflite, build=...) for other models.
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


def write_artefact(
    artefact: Artefact, fields: dict[str, Any], folder: pathlib.Path
) -> tuple[pathlib.Path, np.ndarray]:
    """Writes an artefact.

    Args:
        artefact: a value of ARTEFACTS.
        fields: of a ViTConfig.
        folder: to write to.

    Returns:
        its path, and the logits of its Keras model for random pixels, (COMPARED, classes)
    """
    from vit_keras.config import ViTConfig  # needs the backend

    path, model = artefact.write(ViTConfig.from_fields(**fields), folder)
    images = model.preprocessing.normalise(random_pixels(COMPARED, model.input_shape[1:]))
    return path, model.predict(images, verbose=0)


def randomised(model: "keras.Model") -> "keras.Model":
    """Adds seeded noise to every weight of the model."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(random.normal(scale=0.05, size=weight.shape).astype("float32"))
    return model
