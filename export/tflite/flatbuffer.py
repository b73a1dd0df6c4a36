"""Bytes of a .tflite file <-> its tables: reading, changing, counting operations, packing."""

import collections
import pathlib

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def operator_code(model, operator):
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def read_numbers(buffer):
    return np.frombuffer(buffer.data.tobytes(), "float32")


def as_bytes(numbers):
    return np.frombuffer(numbers.astype("float32").tobytes(), "uint8")


def count_operations(path):
    """{name: how many} of the operations in a .tflite file, the most frequent first"""
    return dict(collections.Counter(name for name, _ in graph_operations(path)).most_common())


def graph_operations(path):
    """(name, name of the first tensor it makes) of every operation"""
    model = schema.ModelT.InitFromPackedBuf(pathlib.Path(path).read_bytes())
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"}
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            yield name, graph.tensors[operator.outputs[0]].name.decode()


def add_buffer(content, name, data):
    """A .tflite file's bytes with one more buffer, under a name in its list of metadata."""
    model = schema.ModelT.InitFromPackedBuf(content)
    for buffer in model.buffers:
        if buffer.offset > 1:  # the quantiser puts data behind the flatbuffer, which will move
            buffer.data = np.frombuffer(content, "uint8", buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    entry = schema.MetadataT(name, buffer=len(model.buffers))
    model.buffers.append(schema.BufferT(np.frombuffer(data, "uint8")))
    model.metadata = [*(model.metadata or []), entry]
    return pack(model)


def pack(model):
    """A ModelT -> a .tflite file's bytes"""
    data = (buffer.data for buffer in model.buffers if buffer.data is not None)
    builder = AligningBuilder(sum(map(len, data)) + 2**20)  # grows by itself, but slowly
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class AligningBuilder(flatbuffers.Builder):
    """Puts arrays at multiples of 16 bytes, as TFLite's schema.fbs asks for weights (force_align).

    Neither the generated classes nor TensorFlow's converter, which uses them, do so.
    """

    def CreateNumpyVector(self, x):  # noqa: N802
        self.Prep(16, x.nbytes)
        return super().CreateNumpyVector(x)
