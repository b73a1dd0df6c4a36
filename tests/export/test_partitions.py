"""Operations in integers and the partitions that they form."""

from ai_edge_litert import schema_py_generated as schema

from export.tflite.flatbuffer import pack
from export.tflite.partitions import count_integer_operations

Kind = schema.TensorType


def test_a_partition_is_a_run_of_operations_in_integers(tmp_path):
    # int8 -> int8 -> float32 -> float32 -> int8 -> int8, with RELU between neighbours but for the
    # casts of types.
    types = [Kind.INT8, Kind.INT8, Kind.FLOAT32, Kind.FLOAT32, Kind.INT8, Kind.INT8]
    names = ["RELU", "DEQUANTIZE", "TANH", "QUANTIZE", "RELU"]
    tensors = [schema.TensorT([1], kind, 0, f"t{i}") for i, kind in enumerate(types)]
    codes = [schema.OperatorCodeT(builtinCode=getattr(schema.BuiltinOperator, n)) for n in names]
    operators = [schema.OperatorT(i, [i], [i + 1]) for i in range(5)]
    graph = schema.SubGraphT(tensors, [0], [5], operators)
    model = schema.ModelT(3, codes, [graph], buffers=[schema.BufferT()])
    (tmp_path / "file").write_bytes(pack(model))

    count = count_integer_operations(tmp_path / "file")

    assert count == {
        "integer": 2,
        "operations": 5,
        "partitions": 2,
        "float": {"DEQUANTIZE": 1, "TANH": 1, "QUANTIZE": 1},
    }
