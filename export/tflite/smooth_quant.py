"""A float32 .tflite + images -> the same function, whose layers lose less in 8 bits.

After a layer norm, some channels are many times as large as others, and 8 bits that cover the
largest leave few steps for the rest. SmoothQuant (arXiv:2211.10438, section 4) divides each channel
by a factor, and multiplies the columns of the layers that read it by the same factor. In the paper
the division is part of the norm's gamma; the converter has already merged gamma into the layers, so
here it is an operation of its own.
"""

import pathlib

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.images import Images
from export.tflite.flatbuffer import float_data, operator_code, pack, read_floats, read_model
from export.tflite.statistics import tensor_values

# Share of the range that moves from activations to weights, 0 to 1. Measured for the first layers
# of the MLPs of a DINOv2-S/14 in static int8: the median relative error was 0.031 without
# smoothing, 0.018 with 0.5 and 0.016 with 0.75.
STRENGTH = 0.75
IMAGES = 32
TINY = 1e-6  # keeps a channel that is always zero from a division by zero


def smooth_channels(source: str | pathlib.Path, path: str | pathlib.Path, images: Images) -> None:
    """Writes the smoothed file.

    A norm stays as it is if operations other than fully connected layers read it.

    Args:
        source: the float32 file.
        path: the file to write.
        images: Images; the first 32 are used.
    """
    model = read_model(source)
    (graph,) = model.subgraphs
    normed = _normed(model)
    names = {tensor: graph.tensors[tensor].name.decode() for tensor in normed}
    largest = _largest(source, names, images.first(IMAGES))
    for tensor, layers in normed.items():
        buffers = [model.buffers[graph.tensors[layer.inputs[1]].buffer] for layer in layers]
        kernels = [read_floats(buffer).reshape(-1, len(largest[tensor])) for buffer in buffers]
        reach = np.max([np.abs(kernel).max(axis=0) for kernel in kernels], axis=0)
        factors = np.maximum(largest[tensor], TINY) ** STRENGTH
        factors = (factors / np.maximum(reach, TINY) ** (1 - STRENGTH)).astype("float32")
        for buffer, kernel in zip(buffers, kernels, strict=True):
            buffer.data = float_data(kernel * factors)
        _multiply(model, tensor, 1 / factors, layers)
    pathlib.Path(path).write_bytes(pack(model))


def _normed(model):
    """{output tensor of a layer norm: the operators that read it, all fully connected layers}."""
    (graph,) = model.subgraphs
    codes = schema.BuiltinOperator
    producers = {output: operator for operator in graph.operators for output in operator.outputs}
    normed: dict[int, list] = {}
    for operator in graph.operators:
        factors = [producers[tensor] for tensor in operator.inputs if tensor in producers]
        scales = any(operator_code(model, factor) == codes.RSQRT for factor in factors)
        if operator_code(model, operator) == codes.MUL and scales:
            (output,) = operator.outputs
            readers = [reader for reader in graph.operators if output in reader.inputs]
            if {operator_code(model, reader) for reader in readers} == {codes.FULLY_CONNECTED}:
                normed[output] = readers
    return normed


def _largest(source, names, images):
    """{tensor: the largest absolute value of each of its channels}, of tensors with these names."""
    largest = dict.fromkeys(names, 0.0)
    for values in tensor_values(source, images):
        for tensor, name in names.items():
            channels = np.abs(values[name]).reshape(-1, values[name].shape[-1])
            largest[tensor] = np.maximum(largest[tensor], channels.max(axis=0))
    return largest


def _multiply(model, tensor, factors, layers):
    """Inserts a product with constant factors between a tensor and the layers that read it."""
    (graph,) = model.subgraphs
    model.buffers.append(schema.BufferT(float_data(factors)))
    normed, first = graph.tensors[tensor], graph.operators.index(layers[0])
    product = next(op for op in graph.operators if tensor in op.outputs)  # the norm's own
    constant, smoothed = len(graph.tensors), len(graph.tensors) + 1
    name = normed.name.decode()
    graph.tensors += [
        schema.TensorT([len(factors)], normed.type, len(model.buffers) - 1, f"{name}/factors"),
        schema.TensorT(normed.shape, normed.type, 0, f"{name}/smoothed"),
    ]
    operator = schema.OperatorT(product.opcodeIndex, [tensor, constant], [smoothed])
    operator.builtinOptionsType = product.builtinOptionsType
    operator.builtinOptions = schema.MulOptionsT()
    graph.operators.insert(first, operator)
    for layer in layers:
        layer.inputs = [smoothed if index == tensor else index for index in layer.inputs]
