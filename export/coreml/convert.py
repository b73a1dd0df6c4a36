"""Model -> .mlpackage for Core ML: an image in, its label and all probabilities out.

coremltools converts on any system, but Core ML runs on Apple's only: the program is checked, not
run.
"""

import importlib.util
import pathlib
from typing import Any

import keras
import tensorflow as tf

from export.checks.verify import RefusedError
from export.endpoints import endpoints_of
from export.labels import class_labels, metadata_files
from export.options import Options
from export.quiet import quiet
from export.source import Source

INPUT, LABEL = "images", "label"
COLOURS = {1: "GRAYSCALE", 3: "RGB"}
# Core ML multiplies a pixel by one scale and adds a bias for each channel; the standard deviations
# differ between channels, and are a part of the graph.
SCALE = 1 / 255


def write_source(model: keras.Model, path: str | pathlib.Path, options: Options) -> None:
    """Writes the SavedModel that every kind is converted from.

    Its images are those of Core ML's input: pixel * SCALE - mean.

    Args:
        model: the model as exported.
        path: the folder to write.
        options: Options; attention is used.
    """
    endpoints = endpoints_of(model)
    extras = {extra.output: extra.build() for extra in endpoints.extras(model, options)}
    std = tf.constant(model.preprocessing.std)

    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        normalised = images / std
        answers = {endpoints.output: endpoints.activate(model(normalised))}
        return answers | {name: function(normalised) for name, function in extras.items()}

    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, INPUT)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", answer, input_signature=[spec])
    archive.write_out(str(path), verbose=False)


def write_float32(source: Source, path: pathlib.Path) -> None:
    """Writes weights and arithmetic in single precision."""
    _convert(source, path, "FLOAT32")


def write_float16(source: Source, path: pathlib.Path) -> None:
    """Writes weights and arithmetic in half precision, the one that the Neural Engine has."""
    _convert(source, path, "FLOAT16")


def missing_tool() -> str:
    """How to install coremltools, or "" if it is installed."""
    installed = importlib.util.find_spec("coremltools")
    return "" if installed else 'coremltools: pip install -e ".[coreml]"'


def import_coremltools() -> Any:
    """The package coremltools.

    Raises:
        RefusedError: when it is not installed.
    """
    try:
        with quiet():
            import coremltools
    except ImportError:
        raise RefusedError(
            "Core ML files are written by coremltools, which is not installed: pip install -e "
            '".[coreml]"'
        ) from None
    return coremltools


def _convert(source, path, precision):
    coremltools = import_coremltools()
    model, endpoints = source.model, endpoints_of(source.model)
    extras = [extra.output for extra in endpoints.extras(model, source.options)]
    # The converter calls outputs Identity, Identity_1, ... in alphabetical order.
    numbered = enumerate(sorted([endpoints.output, *extras]))
    names = {name: f"Identity_{index}" if index else "Identity" for index, name in numbered}
    labels = class_labels(model)
    classifier = coremltools.ClassifierConfig(list(labels), LABEL, names[endpoints.output])
    with quiet():
        package = coremltools.convert(
            str(source.path),
            source="tensorflow",
            convert_to="mlprogram",
            inputs=[_image_input(coremltools, model)],
            classifier_config=classifier if labels else None,
            compute_precision=coremltools.precision[precision],
            minimum_deployment_target=coremltools.target.iOS15,  # the first with ML programs
        )
        spec = package.get_spec()
        if labels:
            names[endpoints.output] = f"{LABEL}_probs"
        for name, old in names.items():
            coremltools.utils.rename_feature(spec, old, name, rename_inputs=False)
        renamed = coremltools.models.MLModel(spec, weights_dir=package.weights_dir)
        _describe(renamed, model, source.options)
        renamed.save(str(path))


def _image_input(coremltools, model):
    """Core ML's image of the model's size and colours, pixels of 0 to 255."""
    rule = model.preprocessing
    if rule.channels not in COLOURS:
        raise RefusedError(
            f"an image of Core ML has 1 or 3 channels, and {model.name} takes {rule.channels}."
        )
    return coremltools.ImageType(
        name=INPUT,
        shape=(1, *rule.image_size, rule.channels),
        scale=SCALE,
        bias=[-mean for mean in rule.mean],
        color_layout=coremltools.colorlayout[COLOURS[rule.channels]],
    )


def _describe(package, model, options):
    """Adds what Xcode shows, and the texts of other artefacts."""
    endpoints = endpoints_of(model)
    package.short_description = model.description or endpoints.summary(model)
    package.author, package.license = options.author, options.license
    package.version = options.version
    package.user_defined_metadata.update(metadata_files(model))
    height, width = model.preprocessing.image_size
    package.input_description[INPUT] = (
        f"{height} x {width} pixels, cropped and resized as preprocessing.json says"
    )
    package.output_description[endpoints.output] = endpoints.description
    for extra in endpoints.extras(model, options):
        package.output_description[extra.output] = extra.description
