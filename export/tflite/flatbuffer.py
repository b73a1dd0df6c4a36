"""The bytes of a .tflite file <-> its tables: reading, changing, counting operations, packing."""

import collections
import pathlib
from collections.abc import Iterator

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"}


def read_model(path: str | pathlib.Path) -> schema.ModelT:
    """The tables of a .tflite file, as objects that can be changed."""
    return unpack(pathlib.Path(path).read_bytes())


def unpack(content: bytes) -> schema.ModelT:
    """The bytes of a .tflite file -> its tables, with all data of buffers inside them."""
    model = schema.ModelT.InitFromPackedBuf(content)
    for buffer in model.buffers:
        if buffer.offset > 1:  # the quantiser puts data after the flatbuffer, whose size may change
            buffer.data = np.frombuffer(content, "uint8", buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def pack(model: schema.ModelT) -> bytes:
    """Tables -> the bytes of a .tflite file."""
    data = (buffer.data for buffer in model.buffers if buffer.data is not None)
    builder = AligningBuilder(sum(map(len, data)) + 2**20)  # it would grow by itself, but slowly
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class AligningBuilder(flatbuffers.Builder):
    """Aligns arrays to 16 bytes, as TFLite's schema.fbs requires for weights (force_align).

    Neither the generated classes nor TensorFlow's converter, which uses them, do so.
    """

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        """Writes an array and returns its offset."""
        self.Prep(16, x.nbytes)
        return super().CreateNumpyVector(x)


def add_buffer(content: bytes, name: str, data: bytes) -> bytes:
    """Adds a buffer to a .tflite file, under a name in its list of metadata.

    Args:
        content: the bytes of the file.
        name: of the buffer.
        data: the bytes of the buffer.

    Returns:
        the bytes of the new file.
    """
    model = unpack(content)
    entry = schema.MetadataT(name, buffer=len(model.buffers))
    model.buffers.append(schema.BufferT(np.frombuffer(data, "uint8")))
    model.metadata = [*(model.metadata or []), entry]
    return pack(model)


def read_floats(buffer: schema.BufferT) -> np.ndarray:
    """The data of a buffer as float32 numbers."""
    return np.frombuffer(buffer.data.tobytes(), "float32")


def read_ints(buffer: schema.BufferT) -> np.ndarray:
    """The data of a buffer as int32 numbers."""
    return np.frombuffer(buffer.data.tobytes(), "int32")


def float_data(numbers: np.ndarray) -> np.ndarray:
    """Numbers -> the data of a buffer, float32."""
    return np.frombuffer(numbers.astype("float32").tobytes(), "uint8")


def operator_code(model: schema.ModelT, operator: schema.OperatorT) -> int:
    """The number of an operation in schema.BuiltinOperator.

    Codes up to 127 were once stored in another field, and files have the code in either.
    """
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def operator_index(model: schema.ModelT, code: int) -> int:
    """The index of an operation's code in a file; the code is added if it is not there."""
    for index, entry in enumerate(model.operatorCodes):
        if max(entry.builtinCode, entry.deprecatedBuiltinCode) == code:
            return index
    model.operatorCodes.append(schema.OperatorCodeT(min(code, 127), builtinCode=code))
    return len(model.operatorCodes) - 1


def add_constant(
    model: schema.ModelT, graph: schema.SubGraphT, numbers: np.ndarray, name: bytes
) -> int:
    """Adds a constant tensor of float32 or int32 numbers to a graph; returns its index."""
    kinds = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}
    model.buffers.append(schema.BufferT(np.frombuffer(numbers.tobytes(), "uint8")))
    graph.tensors.append(
        schema.TensorT(
            list(numbers.shape),
            kinds[numbers.dtype.name],
            len(model.buffers) - 1,
            name,
            hasRank=True,
        )
    )
    return len(graph.tensors) - 1


def add_tensor(graph: schema.SubGraphT, shape: list[int], name: bytes) -> int:
    """Adds a float32 tensor, which an operation computes, to a graph; returns its index."""
    graph.tensors.append(schema.TensorT(shape, schema.TensorType.FLOAT32, 0, name, hasRank=True))
    return len(graph.tensors) - 1


def make_operator(
    model: schema.ModelT, name: str, inputs: list[int], output: int, options: object = None
) -> schema.OperatorT:
    """Makes an operation.

    Args:
        model: the tables of the file; the operation's code is added if it is not there.
        name: of the operation, as in schema.BuiltinOperator.
        inputs: indices of tensors.
        output: index of a tensor.
        options: its table of options, such as schema.MulOptionsT(), or None.
    """
    code = getattr(schema.BuiltinOperator, name)
    operator = schema.OperatorT(operator_index(model, code), inputs, [output])
    if options is not None:
        kind = type(options).__name__.removesuffix("T")
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = options
    return operator


def make_reshape(
    model: schema.ModelT, graph: schema.SubGraphT, source: int, result: int
) -> schema.OperatorT:
    """Makes the operation that gives a tensor another one's shape."""
    tensor = graph.tensors[result]
    shape = np.array(tensor.shape, "int32")
    constant = add_constant(model, graph, shape, tensor.name + b"/shape")
    options = schema.ReshapeOptionsT(shape)
    return make_operator(model, "RESHAPE", [source, constant], result, options)


def replace_operators(
    graph: schema.SubGraphT, old: list[schema.OperatorT], new: list[schema.OperatorT]
) -> None:
    """Puts operations in the place of others, which follow each other."""
    place = graph.operators.index(old[0])
    graph.operators = [operator for operator in graph.operators if operator not in old]
    graph.operators[place:place] = new


def drop_unused_tensors(model: schema.ModelT, number: int) -> None:
    """Removes the tensors of a graph that no operation uses.

    Args:
        model: the tables of a file; they are changed.
        number: of the graph.
    """
    graph = model.subgraphs[number]
    signatures = [entry for entry in model.signatureDefs if entry.subgraphIndex == number]
    ends = [entry for signature in signatures for entry in (*signature.inputs, *signature.outputs)]
    lists = [
        *((op, "inputs") for op in graph.operators),
        *((op, "outputs") for op in graph.operators),
    ]
    lists += [(graph, "inputs"), (graph, "outputs")]
    used = sorted({int(index) for owner, name in lists for index in getattr(owner, name)} - {-1})
    places = {-1: -1, **{index: place for place, index in enumerate(used)}}
    for owner, name in lists:
        setattr(owner, name, [places[int(index)] for index in getattr(owner, name)])
    for entry in ends:
        entry.tensorIndex = places[entry.tensorIndex]
    graph.tensors = [graph.tensors[index] for index in used]


def operation_name(code: int) -> str:
    """The name of an operation: 9 -> "FULLY_CONNECTED"."""
    return _NAMES[code]


def graph_operations(path: str | pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yields, for every operation of the first graph, its name and that of its first output."""
    model = read_model(path)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        tensor = graph.tensors[operator.outputs[0]]
        yield operation_name(operator_code(model, operator)), tensor.name.decode()


def count_operations(path: str | pathlib.Path) -> dict[str, int]:
    """{name: count} of the operations in a file's first graph, the most frequent first."""
    return dict(collections.Counter(name for name, _ in graph_operations(path)).most_common())


def takes_floats(model: schema.ModelT) -> bool:
    """Whether the first input of a file is float32."""
    graph = model.subgraphs[0]
    return graph.tensors[graph.inputs[0]].type == schema.TensorType.FLOAT32


def output_names(model: schema.ModelT) -> list[str]:
    """The names of a file's outputs in its first signature, in the order of the graph's outputs."""
    signature = model.signatureDefs[0]
    names = {output.tensorIndex: output.name.decode() for output in signature.outputs}
    return [names[index] for index in model.subgraphs[0].outputs]
