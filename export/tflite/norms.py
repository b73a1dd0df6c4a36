"""A float32 .tflite -> the same function, whose layer norms keep their accuracy in 8 bits.

A layer norm squares deviations and adds them up. In 8 bits the squares are rounded before they are
added: where one channel is 30 times as large as the others, as in a DINOv2, nearly all squares
become 0. A matrix product of the deviations with themselves adds exact products in 32 bits. It also
takes the place of SQUARE, which has no integer form.
"""

import pathlib

from ai_edge_litert import schema_py_generated as schema

from export.tflite.flatbuffer import (
    add_tensor,
    make_operator,
    make_reshape,
    operator_code,
    pack,
    read_ints,
    read_model,
    replace_operators,
)

Op = schema.BuiltinOperator


def multiply_deviations(source: str | pathlib.Path, path: str | pathlib.Path) -> None:
    """Writes the file with matrix products in place of sums of squares.

    Squares that are summed over other axes than the last become products of two factors.

    Args:
        source: the float32 file.
        path: the file to write.
    """
    model = read_model(source)
    for graph in model.subgraphs:
        for square in [op for op in graph.operators if operator_code(model, op) == Op.SQUARE]:
            readers = [op for op in graph.operators if square.outputs[0] in op.inputs]
            if len(readers) == 1 and _sums_rows(model, graph, readers[0]):
                products = _row_products(model, graph, square.inputs[0], readers[0].outputs[0])
                replace_operators(graph, [square, *readers], products)
            else:
                (x,), (output,) = square.inputs, square.outputs
                tensor = graph.tensors[x]
                copy = add_tensor(graph, list(tensor.shape), tensor.name + b"/copy")
                product = make_operator(model, "MUL", [x, copy], output, schema.MulOptionsT())
                copying = make_reshape(model, graph, x, copy)
                replace_operators(graph, [square], [copying, product])
    pathlib.Path(path).write_bytes(pack(model))


def _sums_rows(model, graph, operator):
    """Whether an operator sums over the last axis and keeps it."""
    if operator_code(model, operator) != Op.SUM or not operator.builtinOptions.keepDims:
        return False
    axes = read_ints(model.buffers[graph.tensors[operator.inputs[1]].buffer])
    rank = len(graph.tensors[operator.inputs[0]].shape)
    return [axis % rank for axis in axes] == [rank - 1]


def _row_products(model, graph, deviations, sums):
    """Operators that multiply each row of a tensor, (..., width), with itself: (..., 1)."""
    *outer, width = map(int, graph.tensors[deviations].shape)
    name = graph.tensors[deviations].name
    # Two tensors: LiteRT's GPU engine crashes where an operation reads one tensor twice.
    rows = add_tensor(graph, [*outer[-2:], 1, width], name + b"/row")
    columns = add_tensor(graph, [*outer[-2:], width, 1], name + b"/column")
    products = add_tensor(graph, [*outer[-2:], 1, 1], graph.tensors[sums].name + b"/product")
    options = schema.BatchMatMulOptionsT()
    return [
        make_reshape(model, graph, deviations, rows),
        make_reshape(model, graph, deviations, columns),
        make_operator(model, "BATCH_MATMUL", [rows, columns], products, options),
        make_reshape(model, graph, products, sums),
    ]
