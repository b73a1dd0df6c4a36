"""Versions of operations in .tflite files are those that TensorFlow's converter writes."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.tiny import tiny_model

from export.endpoints.pixels import pixel_function
from export.options import Options
from export.tflite.flatbuffer import operation_name, operator_code, unpack
from export.tflite.versions import METADATA, set_versions

# The kinds of a converter: what to set.
KINDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float16": {"optimizations": True, "types": [tf.float16]},
    "dynamic": {"optimizations": True},
    "int8": {"optimizations": True, "ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
    "int16x8": {
        "optimizations": True,
        "ops": [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,
        ],
    },
}
FAMILY = (
    {"pooling": "map", "gelu": "tanh"},
    {"pooling": "sequence", "stem": "convolutions", "gelu": "quick", "merge_tokens": 3},
    {"stem": "shifted_patches", "locality_attention": True, "swiglu": True, "qkv_bias": False},
    {"stem": "resnet", "stem_width": 32, "patch_size": 4, "head_width": 8},
)


def convert(model, folder, kind):
    """The .tflite file that TensorFlow's converter writes."""
    answer, spec = pixel_function(model, Options(preprocess="none"), 1)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", answer, input_signature=[spec])
    archive.write_out(folder, verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    settings = KINDS[kind]
    if settings:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = settings.get("types", [])
    converter.target_spec.supported_ops = settings.get("ops", [tf.lite.OpsSet.TFLITE_BUILTINS])
    if "ops" in settings:
        images = np.random.default_rng(0).random((4, 1, *model.input_shape[1:]), "float32")
        converter.representative_dataset = lambda: ([image] for image in images)
    return converter.convert()


def versions(tables):
    return {
        operation_name(operator_code(tables, operator)): code.version
        for graph in tables.subgraphs
        for operator in graph.operators
        for code in [tables.operatorCodes[operator.opcodeIndex]]
    }


def least_runtime(tables):
    (entry,) = (entry for entry in tables.metadata if entry.name == METADATA)
    return tables.buffers[entry.buffer].data.tobytes().rstrip(b"\0").decode()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", FAMILY)
def test_versions_are_those_of_tensorflows_converter(options, kind, tmp_path):
    written = convert(tiny_model(image_size=(16, 16), **options), tmp_path, kind)
    expected, tables = unpack(written), unpack(written)
    for code in tables.operatorCodes:
        code.version = 1

    set_versions(tables)

    if kind == "int16x8":  # for which the converter writes many versions of int8
        ours = versions(tables)
        lower = {name for name, version in versions(expected).items() if ours[name] < version}
        assert lower <= {"GREATER"}  # which stays in float32 in its files
        assert ours["FULLY_CONNECTED"] == 14
    else:
        assert versions(tables) == versions(expected)
        assert least_runtime(tables) == least_runtime(expected)
