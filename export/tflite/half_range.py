"""A .tflite file in float + images -> whether its numbers fit float16, the type of phones' GPUs."""

import pathlib
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.images import Images
from export.tflite.flatbuffer import operator_code, read_model
from export.tflite.statistics import tensor_values

LARGEST = 65_504.0  # in float16
SMALLEST = 6.1e-5  # that float16 stores with all its digits; smaller ones are rounded, then zero


def check_half_range(path: str | pathlib.Path, images: Images) -> dict[str, Any]:
    """Runs a file in float32, and looks for numbers that float16 does not hold.

    Args:
        path: the file.
        images: Images.

    Returns:
        {"tensors": how many tensors operations compute, "too_large": how many of them exceed
        65,504, "largest": the largest absolute value, "small_variances": how many inputs of a
        reciprocal square root, the variances of norms, fall below 6.1e-5}.
    """
    model = read_model(path)
    graph = model.subgraphs[0]
    variances = {
        graph.tensors[operator.inputs[0]].name.decode()
        for operator in graph.operators
        if operator_code(model, operator) == schema.BuiltinOperator.RSQRT
    }
    largest: dict[str, float] = {}
    smallest: dict[str, float] = {}
    for tensors in tensor_values(path, images):
        for name, values in tensors.items():
            largest[name] = max(largest.get(name, 0.0), float(np.abs(values).max()))
            if name in variances:
                smallest[name] = min(smallest.get(name, LARGEST), float(values.min()))
    return {
        "tensors": len(largest),
        "too_large": sum(value > LARGEST for value in largest.values()),
        "largest": max(largest.values()),
        "small_variances": sum(value < SMALLEST for value in smallest.values()),
    }
