"""A float32 .tflite + images -> the same function, whose layers lose less in 8 bits.

What leaves a layer norm has channels many times as large as others, and 8 bits that reach the
largest leave little to the rest. Each channel is therefore divided by a factor, and the columns of
the layers that read it are multiplied by the same: SmoothQuant, arXiv:2211.10438, section 4. The
factors cannot go into the norm's gamma, as there: the converter has moved that into the layers.
"""

import pathlib

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from export.checks.run_standalone import feeds
from export.tflite.flatbuffer import as_bytes, operator_code, pack, read_numbers

# How much of the difficulty goes from activations to weights, 0 to 1. Of 0.5 and 0.75 what lost
# less: the relative error of a DINOv2-S/14's first layers of MLPs, in static int8, had a median of
# 0.031 without, and of 0.018 and 0.016.
STRENGTH = 0.75
IMAGES = 32
TINY = 1e-6  # of a channel that is always zero


def smooth(source, path, images):
    """Writes the smoothed file. A norm that not only layers read is left alone.

    Args:
        source: the float32 file.
        path: the file to write.
        images: Images, of which 32 are looked at.
    """
    model = schema.ModelT.InitFromPackedBuf(pathlib.Path(source).read_bytes())
    (graph,) = model.subgraphs
    normed = _normed(model)
    largest = _largest(source, list(normed), images.first(IMAGES))
    for tensor, layers in normed.items():
        buffers = [model.buffers[graph.tensors[layer.inputs[1]].buffer] for layer in layers]
        kernels = [read_numbers(buffer).reshape(-1, len(largest[tensor])) for buffer in buffers]
        reach = np.max([np.abs(kernel).max(axis=0) for kernel in kernels], axis=0)
        factors = np.maximum(largest[tensor], TINY) ** STRENGTH
        factors = (factors / np.maximum(reach, TINY) ** (1 - STRENGTH)).astype("float32")
        for buffer, kernel in zip(buffers, kernels, strict=True):
            buffer.data = as_bytes(kernel * factors)
        _multiply(model, tensor, 1 / factors, layers)
    pathlib.Path(path).write_bytes(pack(model))


def _normed(model):
    """{tensor that leaves a layer norm: the layers, operations, that read it and nothing else}"""
    (graph,) = model.subgraphs
    operations = schema.BuiltinOperator
    made_by = {output: operator for operator in graph.operators for output in operator.outputs}
    normed: dict[int, list] = {}
    for operator in graph.operators:
        factors = [made_by.get(tensor) for tensor in operator.inputs]
        scaled = any(by and operator_code(model, by) == operations.RSQRT for by in factors)
        if operator_code(model, operator) == operations.MUL and scaled:
            (made,) = operator.outputs
            readers = [reader for reader in graph.operators if made in reader.inputs]
            if {operator_code(model, reader) for reader in readers} == {operations.FULLY_CONNECTED}:
                normed[made] = readers
    return normed


def _largest(source, tensors, images):
    """{tensor: the largest absolute value of each of its channels}"""
    interpreter = Interpreter(
        str(source),
        # Without XNNPACK, which keeps what is between its operations to itself.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    runner = interpreter.get_signature_runner()
    largest = dict.fromkeys(tensors, 0.0)
    for feed in feeds(interpreter, images.pixels, images.mean, images.std):
        runner(**feed)
        for tensor in tensors:
            values = np.abs(interpreter.get_tensor(tensor))
            largest[tensor] = np.maximum(
                largest[tensor], values.reshape(-1, values.shape[-1]).max(0)
            )
    return largest


def _multiply(model, tensor, factors, layers):
    """Puts a product with constant factors between a tensor and the layers that read it."""
    (graph,) = model.subgraphs
    model.buffers.append(schema.BufferT(as_bytes(factors)))
    given, first = graph.tensors[tensor], graph.operators.index(layers[0])
    product = next(op for op in graph.operators if tensor in op.outputs)  # the norm's own
    constant, made = len(graph.tensors), len(graph.tensors) + 1
    name = given.name.decode()
    graph.tensors += [
        schema.TensorT([len(factors)], given.type, len(model.buffers) - 1, f"{name}/factors"),
        schema.TensorT(given.shape, given.type, 0, f"{name}/smoothed"),
    ]
    operator = schema.OperatorT(product.opcodeIndex, [tensor, constant], [made])
    operator.builtinOptionsType = product.builtinOptionsType
    operator.builtinOptions = schema.MulOptionsT()
    graph.operators.insert(first, operator)
    for layer in layers:
        layer.inputs = [made if read == tensor else read for read in layer.inputs]
