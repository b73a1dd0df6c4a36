"""A float32 .tflite -> one whose every operation has an integer form.

It takes pixels, 0 to 255, as float32, which the quantiser makes uint8 by a scale of 1.
"""

import pathlib

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.tflite.flatbuffer import (
    add_constant,
    add_tensor,
    make_operator,
    operator_code,
    pack,
    read_model,
    replace_operators,
)

Op = schema.BuiltinOperator
SIGMOID_FACTOR = 1.702  # section 2 of arXiv:1606.08415


def remove_cast(source: str | pathlib.Path, path: str | pathlib.Path) -> str:
    """Writes a file that takes float32 pixels in place of uint8.

    Args:
        source: the float32 file; its first operation may be a cast of its input.
        path: the file to write.

    Returns:
        the name of the new input.
    """
    model = read_model(source)
    (graph,) = model.subgraphs
    (pixels,) = graph.inputs
    casts = [op for op in graph.operators if operator_code(model, op) == Op.CAST]
    for cast in [op for op in casts if list(op.inputs) == [pixels]]:
        graph.operators.remove(cast)
        (pixels,) = cast.outputs
    graph.inputs = [pixels]
    for signature in model.signatureDefs:
        (entry,) = signature.inputs
        entry.tensorIndex = pixels
    pathlib.Path(path).write_bytes(pack(model))
    return graph.tensors[pixels].name.decode()


def sigmoid_gelu(source: str | pathlib.Path, path: str | pathlib.Path) -> None:
    """Writes a file whose GELU(x) is x * sigmoid(1.702 x), LOGISTIC and two MUL.

    Args:
        source: the float32 file.
        path: the file to write.
    """
    model = read_model(source)
    (graph,) = model.subgraphs
    factor = add_constant(model, graph, np.array([SIGMOID_FACTOR], "float32"), b"gelu/factor")
    for gelu in [op for op in graph.operators if operator_code(model, op) == Op.GELU]:
        (x,), (output,) = gelu.inputs, gelu.outputs
        shape, name = list(graph.tensors[x].shape), graph.tensors[output].name
        scaled = add_tensor(graph, shape, name + b"/scaled")
        gate = add_tensor(graph, shape, name + b"/gate")
        product = schema.MulOptionsT
        operators = [
            make_operator(model, "MUL", [x, factor], scaled, product()),
            make_operator(model, "LOGISTIC", [scaled], gate),
            make_operator(model, "MUL", [x, gate], output, product()),
        ]
        replace_operators(graph, [gelu], operators)
    pathlib.Path(path).write_bytes(pack(model))
