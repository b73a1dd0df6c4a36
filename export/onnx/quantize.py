"""A float32 .onnx + images -> the same model in fewer bits: half floats, dynamic and static int8.

onnxruntime's own tools make every kind from the same float32 file. All use operations of opset 18
and no others, so that other runtimes read the files, too.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from export.checks.run_standalone import onnx_feeds
from export.quiet import quiet
from export.source import Source
from vit_keras.utils.files import temporary_folder

# Operations whose squares and exponentials leave the range of half floats, and those that
# onnxruntime's processors have for float32 alone.
IN_FLOAT32 = ["LayerNormalization", "Softmax", *DEFAULT_OP_BLOCK_LIST]
# Arguments of the static quantiser, measured in benchmarks/RESULTS.md. Additions, norms and GELU
# cost more accuracy in int8 than they save time. MinMax keeps the true ranges. Weights of 7 bits
# (reduce_range): in x86 processors without VNNI, sums of two products of 8 bits overflow.
STATIC: dict[str, Any] = {
    "quant_format": QuantFormat.QDQ,
    "op_types_to_quantize": ["MatMul", "Gemm", "Conv"],
    "per_channel": True,
    "reduce_range": True,
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt8,
    "calibrate_method": CalibrationMethod.MinMax,
}


class CalibrationImages(CalibrationDataReader):
    """Images of a source, one batch after another, as the quantiser asks for them.

    Args:
        source: Source.
    """

    def __init__(self, source: Source) -> None:
        images = source.images["calibration"]
        session = onnxruntime.InferenceSession(source.path, providers=["CPUExecutionProvider"])
        # Single images: no zeros fill a batch.
        self.feeds = onnx_feeds(session, images.pixels, images.mean, images.std, 1)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, {name of the input: images}, or None after the last."""
        return next(self.feeds, None)


def write_float16(source: Source, path: pathlib.Path) -> None:
    """Writes weights and arithmetic in half precision; inputs and outputs stay as they are.

    Norms and softmax stay in float32: the squares of a large token overflow.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(source.path))
    half = convert_float_to_float16(model, keep_io_types=True, op_block_list=IN_FLOAT32)
    del half.graph.value_info[:]  # it has float16 as the type of what stays in float32
    OnnxModel(half).topological_sort()  # the casts are at the end, after their users
    onnx.save(half, path)


def write_dynamic(source: Source, path: pathlib.Path) -> None:
    """Writes weights in 8 bits; their inputs are quantised at run time, for each image."""
    with with_shapes(source) as inferred, quiet():
        quantize_dynamic(inferred, path, weight_type=QuantType.QInt8, per_channel=True)


def write_int8(source: Source, path: pathlib.Path) -> None:
    """Writes products with weights in integers, with ranges of the calibration images."""
    with with_shapes(source) as inferred, quiet():
        floats = products_of_activations(inferred)
        quantize_static(
            inferred, path, CalibrationImages(source), nodes_to_exclude=floats, **STATIC
        )


def products_of_activations(path: pathlib.Path) -> list[str]:
    """Names of the matrix products without weights, those of attention.

    In float32 they are more accurate, and faster: quantising both factors costs more than it saves.

    Args:
        path: of a float32 .onnx file.
    """
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and weights.isdisjoint(node.input)
    ]


@contextlib.contextmanager
def with_shapes(source: Source) -> Iterator[pathlib.Path]:
    """A temporary copy of a source with the shapes of all tensors, which the quantisers need."""
    with temporary_folder() as folder:
        path = folder / "inferred.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(onnx.load(source.path)), path)
        yield path
