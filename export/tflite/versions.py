"""Operations and the types of their tensors -> versions, and the oldest runtimes that know them.

A runtime refuses an operation of a version that it does not know. If a file claims an older version
than its types need, old runtimes compute nonsense without an error.

The numbers are those of TensorFlow 2.21's op_version.cc and runtime_version.cc
(tensorflow/compiler/mlir/lite/tools/versioning), for the operations that models of this project
consist of, with the differences that are stated here.
"""

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.tflite.flatbuffer import operation_name, operator_code
from vit_keras.utils.errors import InputError

Op = schema.BuiltinOperator
Type = schema.TensorType
METADATA = b"min_runtime_version"
METADATA_BYTES = 16  # the length that TensorFlow's converter reserves

# Operation -> least runtime, "MAJOR.MINOR" of TensorFlow, of each of its versions, from 1 on.
RUNTIMES = {
    Op.ABS: ("1.13", "2.4", "2.5"),
    Op.ADD: ("1.5", "1.14", "2.4"),
    Op.BATCH_MATMUL: ("2.3", "2.3", "2.4"),
    Op.CAST: ("1.5", "2.7", "2.8"),
    Op.CONCATENATION: ("1.5", "1.14", "2.3"),
    Op.CONV_2D: ("1.5", "1.14", "1.14", "2.3", "2.4", "2.9", "2.11", "2.15"),
    Op.DEQUANTIZE: ("1.13", "1.14", "1.15", "2.2", "2.7"),
    Op.DIV: ("1.6",),
    Op.FULLY_CONNECTED: (
        *("1.5", "1.10", "1.14", "1.14", "2.0", "2.1"),
        *("2.3", "2.3", "2.3", "2.11", "2.15", "2.17", "2.18", "2.21"),
    ),
    Op.GELU: ("2.9", "2.9"),
    Op.GREATER: ("1.14", "1.14"),
    Op.LOG: ("1.14", "2.15"),
    Op.LOGISTIC: ("1.14", "1.14", "2.3"),
    Op.MAX_POOL_2D: ("1.5", "1.14", "2.3"),
    Op.MAXIMUM: ("1.14", "1.14", "2.3", "2.3"),
    Op.MEAN: ("1.6", "1.14", "2.4"),
    Op.MINIMUM: ("1.14", "1.14", "2.3", "2.3"),
    Op.MUL: ("1.5", "1.14", "1.15", "2.3"),
    Op.PAD: ("1.5", "1.14", "2.4"),
    Op.QUANTIZE: ("1.14", "1.15", "2.7"),
    Op.REDUCE_MAX: ("1.11", "1.14", "2.5"),
    Op.RELU: ("1.5", "2.1", "2.5"),
    Op.RESHAPE: ("1.5",),
    Op.RSQRT: ("1.10", "2.5", "2.15"),
    Op.SOFTMAX: ("1.5", "1.14", "2.3"),
    Op.SPLIT: ("1.5", "1.14", "1.14", "2.3"),
    Op.SQUARE: ("1.12",),
    Op.SQUARED_DIFFERENCE: ("1.13", "2.5"),
    Op.STRIDED_SLICE: ("1.6", "1.14"),
    Op.SUB: ("1.6", "1.14", "2.3", "2.4", "2.4"),
    Op.SUM: ("1.10", "1.15"),
    Op.TANH: ("1.14", "1.14", "2.3"),
    Op.TILE: ("1.10", "2.2", "2.8"),
    Op.TRANSPOSE: ("1.6", "1.14", "1.15", "2.3", "2.4"),
}

# First version of LiteRT that was measured to read what needs these versions of TensorFlow Lite.
LITERT = {"2.17": "1.0", "2.18": "1.0", "2.20": "1.4", "2.21": "2.1"}

# Operation -> version for float32, int8 and int16 of its first input; 1 for other types. Those that
# are not here are in RULES, or have one version for all types.
VERSIONS = {
    Op.ABS: (1, 2, 3),
    Op.ADD: (1, 2, 3),
    Op.BATCH_MATMUL: (1, 2, 3),
    Op.CONCATENATION: (1, 2, 3),
    Op.GELU: (1, 2, 2),  # TensorFlow's rules have no int16
    Op.GREATER: (1, 2, 2),
    Op.LOG: (1, 2, 2),
    Op.LOGISTIC: (1, 2, 3),
    Op.MAX_POOL_2D: (1, 2, 3),
    Op.MAXIMUM: (1, 2, 4),
    Op.MEAN: (1, 2, 3),
    Op.MINIMUM: (1, 2, 4),
    Op.PAD: (1, 2, 3),
    Op.REDUCE_MAX: (1, 2, 3),
    Op.RELU: (1, 2, 3),
    Op.RSQRT: (1, 2, 3),
    Op.SOFTMAX: (1, 2, 3),
    Op.SQUARED_DIFFERENCE: (1, 2, 2),
    Op.STRIDED_SLICE: (1, 2, 2),
    Op.SUB: (1, 2, 5),
    Op.SUM: (1, 2, 2),
    Op.TANH: (1, 2, 3),
    Op.TILE: (1, 3, 3),
    Op.TRANSPOSE: (1, 2, 5),
}
TYPES = (Type.FLOAT32, Type.INT8, Type.INT16)

# What a rule gets: the operation, its inputs and its outputs; a missing input is None.
Rule = Callable[[schema.OperatorT, list, list], int]


def set_versions(model: schema.ModelT) -> str:
    """Sets the versions of all operations and the metadata min_runtime_version.

    Args:
        model: the tables of a .tflite file; they are changed.

    Returns:
        the oldest version of TensorFlow Lite that reads the file, "2.17".

    Raises:
        InputError: for an operation without a rule.
    """
    least = ["1.5"]
    versions: dict[int, int] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = operator_code(model, operator)
            version = _version(code, operator, graph)
            index = operator.opcodeIndex
            versions[index] = max(versions.get(index, 1), version)
            least.append(_runtime(code, version, graph.tensors[operator.inputs[0]]))
    for index, version in versions.items():
        model.operatorCodes[index].version = version
    runtime = max(least, key=lambda text: tuple(map(int, text.split("."))))
    _set_metadata(model, f"{runtime}.0")
    return runtime


def least_runtime(model: schema.ModelT) -> str:
    """The oldest runtime that reads a finished file: "TensorFlow Lite 2.9" or "LiteRT 1.4"."""
    (entry,) = (entry for entry in model.metadata if entry.name == METADATA)
    text = model.buffers[entry.buffer].data.tobytes().rstrip(b"\0").decode()
    version = text.removesuffix(".0")
    return f"LiteRT {LITERT[version]}" if version in LITERT else f"TensorFlow Lite {version}"


def _version(code: int, operator: schema.OperatorT, graph: schema.SubGraphT) -> int:
    if code not in RUNTIMES:
        raise InputError(
            f"the file has the operation {operation_name(code)}; which runtimes compute it is not "
            f"known. Add it to export/tflite/versions.py."
        )
    inputs = [graph.tensors[index] if index >= 0 else None for index in operator.inputs]
    outputs = [graph.tensors[index] for index in operator.outputs]
    if code in RULES:
        return RULES[code](operator, inputs, outputs)
    return _by_type(code, inputs[0])


def _by_type(code: int, tensor: schema.TensorT) -> int:
    by_type = dict(zip(TYPES, VERSIONS.get(code, ()), strict=False))
    return by_type.get(tensor.type, 1)


def _runtime(code: int, version: int, first: schema.TensorT) -> str:
    if code == Op.GELU and first.type == Type.INT16:
        return "2.20"  # measured: TensorFlow 2.18 and LiteRT 1.2 fail, LiteRT 1.4 computes it
    return RUNTIMES[code][version - 1]


# Dense layers with a scale for each channel, in which older runtimes use the first one for all. For
# int16, TensorFlow's rules do not ask for more than 11. Measured: LiteRT 1.0 accepts 13 and is
# wrong, LiteRT 1.2 is right; 14 is the first that 1.0 refuses.
_PER_CHANNEL = {(Type.FLOAT32, Type.INT8): 12, (Type.INT16, Type.INT8): 14}


def _fully_connected(operator: schema.OperatorT, inputs: list, outputs: list) -> int:
    x, kernel, *_ = inputs
    types = x.type, kernel.type
    if _is_per_channel(kernel) and types in _PER_CHANNEL:
        return _PER_CHANNEL[types]
    versions = {
        (Type.INT8, Type.INT8): 4,
        (Type.FLOAT32, Type.INT8): 3,
        (Type.INT16, Type.INT8): 11,
    }
    keeps_axes = 5 if operator.builtinOptions.keepNumDims else 1
    asymmetric = 9 if operator.builtinOptions.asymmetricQuantizeInputs else 1
    return max(versions.get(types, 1), keeps_axes, asymmetric)


def _conv_2d(operator: schema.OperatorT, inputs: list, outputs: list) -> int:
    x, kernel, *_ = inputs
    if (x.type, kernel.type) == (Type.FLOAT32, Type.INT8):
        return 5 if _is_per_channel(kernel) else 2
    return {Type.FLOAT32: 1, Type.INT8: 3, Type.INT16: 8}[x.type]


def _mul(operator: schema.OperatorT, inputs: list, outputs: list) -> int:
    if inputs[0].type == Type.INT8:
        scales = [_scales(tensor) for tensor in (*inputs, *outputs)]
        if all(map(len, scales)):
            first, second, product = (scale[0] for scale in scales)
            return 3 if first * second / product >= 1 else 2
        return 2
    return 4 if inputs[0].type == Type.INT16 else 1


def _quantize(operator: schema.OperatorT, inputs: list, outputs: list) -> int:
    return 2 if outputs[0].type == Type.INT16 else 1


def _dequantize(operator: schema.OperatorT, inputs: list, outputs: list) -> int:
    (tensor,) = inputs
    int8 = 5 if _is_per_channel(tensor) else 2
    return {Type.INT16: 3, Type.FLOAT16: 3, Type.INT8: int8}.get(tensor.type, 1)


def _cast(operator: schema.OperatorT, inputs: list, outputs: list) -> int:
    return 3 if Type.INT8 in (inputs[0].type, outputs[0].type) else 1


def _split(operator: schema.OperatorT, inputs: list, outputs: list) -> int:
    return {Type.INT8: 2, Type.INT32: 3, Type.INT16: 4}.get(inputs[1].type, 1)


RULES: dict[int, Rule] = {
    Op.CAST: _cast,
    Op.CONV_2D: _conv_2d,
    Op.DEQUANTIZE: _dequantize,
    Op.FULLY_CONNECTED: _fully_connected,
    Op.MUL: _mul,
    Op.QUANTIZE: _quantize,
    Op.SPLIT: _split,
}


def _scales(tensor: schema.TensorT) -> np.ndarray:
    quantization = tensor.quantization
    found = None if quantization is None else quantization.scale
    return np.zeros(0) if found is None else np.asarray(found)


def _is_per_channel(tensor: schema.TensorT) -> bool:
    return len(_scales(tensor)) > 1


def _set_metadata(model: schema.ModelT, text: str) -> None:
    """Replaces or adds the metadata min_runtime_version."""
    data = np.frombuffer(text.encode().ljust(METADATA_BYTES, b"\0"), "uint8")
    entries = list(model.metadata if model.metadata is not None else [])
    for entry in entries:
        if entry.name == METADATA:
            model.buffers[entry.buffer].data = data
            return
    model.buffers.append(schema.BufferT(data))
    model.metadata = [*entries, schema.MetadataT(METADATA, len(model.buffers) - 1)]
