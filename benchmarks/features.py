"""A .tflite classifier -> the same file up to the features that its last layer reads."""

import pathlib

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from export.tflite.flatbuffer import operator_code, pack, read_model

LAYERS = {schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.CONV_2D}
THREADS = 2


def find_features(model: schema.ModelT) -> int:
    """The index of the tensor that the last layer of a classifier reads."""
    operators = model.subgraphs[0].operators
    last = [operator for operator in operators if operator_code(model, operator) in LAYERS][-1]
    return int(last.inputs[0])


def without_classifier(path: str | pathlib.Path) -> bytes:
    """The bytes of a .tflite file that returns features in place of answers.

    Args:
        path: of the classifier, this project's or another one.
    """
    model = read_model(path)
    model.subgraphs[0].outputs = [find_features(model)]
    model.signatureDefs = []  # they name the answer
    return pack(model)


def features_of(path: str | pathlib.Path, pixels: np.ndarray) -> np.ndarray:
    """The features of images, float32 (count, width).

    Args:
        path: of the classifier; it takes uint8, and normalises in its graph or by its scale.
        pixels: uint8 (count, height, width, channels).
    """
    interpreter = Interpreter(model_content=without_classifier(path), num_threads=THREADS)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = result["quantization"]  # 0, 0 for floats
    rows = []
    for image in pixels:
        interpreter.set_tensor(source["index"], image[np.newaxis])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(result["index"]).ravel().astype("float32"))
    features = np.stack(rows)
    return (features - np.float32(zero_point)) * np.float32(scale) if scale else features
