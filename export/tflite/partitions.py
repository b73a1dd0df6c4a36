"""A .tflite file -> how much of it an accelerator for integers can take."""

import collections
import itertools
import pathlib
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from export.tflite.flatbuffer import operation_name, operator_code, read_model

Kind = schema.TensorType
INTEGERS = {Kind.INT8, Kind.UINT8, Kind.INT16, Kind.INT32, Kind.INT64, Kind.INT4, Kind.BOOL}


def count_integer_operations(path: str | pathlib.Path) -> dict[str, Any]:
    """Counts the operations in integers and the partitions that they form.

    A partition is a run of operations, in the order of execution, whose tensors are all integers.

    Args:
        path: the file.

    Returns:
        {"integer": operations in integers, "operations": all, "partitions": their number,
        "float": {name: count} of the others, the most frequent first}.
    """
    model = read_model(path)
    graph = model.subgraphs[0]
    in_integers = [
        all(graph.tensors[index].type in INTEGERS for index in _tensors(operator))
        for operator in graph.operators
    ]
    names = [operation_name(operator_code(model, operator)) for operator in graph.operators]
    floats = [name for name, integer in zip(names, in_integers, strict=True) if not integer]
    return {
        "integer": sum(in_integers),
        "operations": len(in_integers),
        "partitions": sum(integer for integer, _ in itertools.groupby(in_integers)),
        "float": dict(collections.Counter(floats).most_common()),
    }


def _tensors(operator):
    """The indices of an operation's tensors; -1 stands for an input that is left out."""
    return [index for index in [*operator.inputs, *operator.outputs] if index >= 0]
