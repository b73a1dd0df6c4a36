"""A trained model -> how far its features move when every operation is rounded to float16.

python -m benchmarks.float16_arithmetic runs/photos/model.keras

GPUs of phones compute in float16. Here each operation of the float32 .tflite file is one NumPy
function, whose constants and result are rounded to float16; sums inside an operation are float32.
With nothing rounded, the same functions are first compared with LiteRT. The images are those of an
export.
"""

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from scipy.special import erf

from benchmarks.features import features_of, find_features
from benchmarks.machine import describe_machine
from export.export import load, load_subject, prepared
from export.options import Options
from export.tflite.flatbuffer import operation_name, operator_code, read_model
from vit_keras.utils.errors import InputError

Arrays = list[np.ndarray]
FLOATS = schema.TensorType.FLOAT32
TYPES = {FLOATS: "float32", schema.TensorType.INT32: "int32", schema.TensorType.UINT8: "uint8"}


def main() -> None:
    """Prints the difference from LiteRT in float32, and the cosine of float16 with float32."""
    parser = argparse.ArgumentParser("python -m benchmarks.float16_arithmetic")
    parser.add_argument("model", help="a .keras file in a run folder")
    parser.add_argument("--images", type=int, default=32, help="32 by default")
    parser.add_argument("--data", default="", help="as for `python -m export`")
    arguments = parser.parse_args()
    subject = load_subject(
        *load(arguments.model, Options()), arguments.data, "", arguments.images, Options()
    )
    with prepared(subject, "tflite") as source:
        pixels = source.images["evaluation"].pixels
        litert = features_of(source.path, pixels)
        single = FileInNumPy(source.path, "float32").features(pixels)
        half = FileInNumPy(source.path, "float16").features(pixels)
    moved = 1 - cosines(half, single)
    print(describe_machine("tensorflow", "ai-edge-litert", "numpy"), end="\n\n")
    print(f"{len(pixels)} images, {single.shape[1]} features up to {np.abs(single).max():.1f}")
    print(f"float32, largest difference from LiteRT: {np.abs(single - litert).max():.1e}")
    print(f"float16 and float32, least cosine: {1 - moved.max():.6f}, mean {1 - moved.mean():.6f}")
    print(f"largest difference of a feature: {np.abs(half - single).max():.1e}")


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine of each row with the same row of another matrix, float64 (rows,)."""
    first, second = first.astype("float64"), second.astype("float64")
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / lengths


class FileInNumPy:
    """A float32 .tflite file whose operations NumPy computes.

    Args:
        path: of the file.
        dtype: "float32", or "float16" to round constants and results of operations.

    Raises:
        InputError: for a file with operations that are not in OPERATIONS.
    """

    def __init__(self, path: pathlib.Path, dtype: str) -> None:
        self.dtype = dtype
        self.model = read_model(path)
        self.graph = self.model.subgraphs[0]
        self.names = [
            operation_name(operator_code(self.model, operator)) for operator in self.graph.operators
        ]
        unknown = sorted(set(self.names) - set(OPERATIONS))
        if unknown:
            raise InputError(f"{path} has operations without a function: {', '.join(unknown)}.")
        self.constants = {
            index: self._round(array)
            for index, tensor in enumerate(self.graph.tensors)
            if (array := self._constant(tensor)) is not None
        }

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """What the last layer reads, float32 (count, width), for uint8 images."""
        result = find_features(self.model)
        return np.stack([self.run(image[np.newaxis])[result].ravel() for image in pixels])

    def run(self, image: np.ndarray) -> dict[int, np.ndarray]:
        """Computes the tensors of one image, {index: array}.

        Args:
            image: uint8 (1, height, width, channels).
        """
        tensors = {**self.constants, int(self.graph.inputs[0]): image}
        for name, operator in zip(self.names, self.graph.operators, strict=True):
            inputs = [tensors[index] for index in operator.inputs if index >= 0]
            results = OPERATIONS[name](inputs, operator.builtinOptions)
            for index, array in zip(operator.outputs, results, strict=True):
                tensors[index] = self._round(array)
        return tensors

    def _round(self, array: np.ndarray) -> np.ndarray:
        """An array as it is, or floats rounded; what float16 cannot hold becomes infinite."""
        if array.dtype.kind != "f":
            return array
        with np.errstate(over="ignore"):
            return array.astype(self.dtype).astype("float32")

    def _constant(self, tensor: schema.TensorT) -> np.ndarray | None:
        """The array of a constant tensor; None for one that an operation computes."""
        data = self.model.buffers[tensor.buffer].data
        if data is None or not len(data):
            return None
        shape = [] if tensor.shape is None else list(tensor.shape)
        return np.frombuffer(np.asarray(data).tobytes(), TYPES[tensor.type]).reshape(shape)


def fully_connected(inputs: Arrays, options: schema.FullyConnectedOptionsT) -> Arrays:
    """Multiplies by a kernel (outputs, inputs) and adds a bias, if there is one."""
    source, kernel, *bias = inputs
    return [source @ kernel.T + (bias[0] if bias else 0)]


def batch_matmul(inputs: Arrays, options: schema.BatchMatMulOptionsT) -> Arrays:
    """Multiplies matrices, either of which may be stored transposed."""
    first, second = inputs
    first = np.swapaxes(first, -1, -2) if options.adjX else first
    return [first @ (np.swapaxes(second, -1, -2) if options.adjY else second)]


def softmax(inputs: Arrays, options: schema.SoftmaxOptionsT) -> Arrays:
    """Normalises exponentials over the last axis."""
    scaled = inputs[0] * options.beta
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return [exponentials / exponentials.sum(axis=-1, keepdims=True)]


def gelu(inputs: Arrays, options: schema.GeluOptionsT) -> Arrays:
    """GELU (arXiv:1606.08415), exact or by tanh."""
    (x,) = inputs
    if options.approximate:
        return [x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))]
    return [x / 2 * (1 + erf(x / np.sqrt(np.float32(2))))]


def strided_slice(inputs: Arrays, options: schema.StridedSliceOptionsT) -> Arrays:
    """Slices; a bit of a mask ignores the begin or end of its axis."""
    source, begin, end, strides = inputs
    slices = tuple(
        slice(
            None if options.beginMask >> axis & 1 else begin[axis],
            None if options.endMask >> axis & 1 else end[axis],
            strides[axis],
        )
        for axis in range(len(begin))
    )
    return [source[slices]]


def reduction(reduce: Callable[..., np.ndarray]) -> Callable[[Arrays, Any], Arrays]:
    """The operation that reduces some axes."""
    return lambda inputs, options: [
        reduce(inputs[0], axis=tuple(np.ravel(inputs[1])), keepdims=options.keepDims)
    ]


OPERATIONS: dict[str, Callable[[Arrays, Any], Arrays]] = {
    "ADD": lambda inputs, options: [inputs[0] + inputs[1]],
    "BATCH_MATMUL": batch_matmul,
    "CAST": lambda inputs, options: [inputs[0].astype("float32")],
    "CONCATENATION": lambda inputs, options: [np.concatenate(inputs, options.axis)],
    "FULLY_CONNECTED": fully_connected,
    "GELU": gelu,
    "MEAN": reduction(np.mean),
    "MUL": lambda inputs, options: [inputs[0] * inputs[1]],
    "RESHAPE": lambda inputs, options: [inputs[0].reshape(inputs[1])],
    "RSQRT": lambda inputs, options: [1 / np.sqrt(inputs[0])],
    "SOFTMAX": softmax,
    "SPLIT": lambda inputs, options: np.split(inputs[1], options.numSplits, int(inputs[0])),
    "SQUARE": lambda inputs, options: [np.square(inputs[0])],
    "STRIDED_SLICE": strided_slice,
    "SUB": lambda inputs, options: [inputs[0] - inputs[1]],
    "SUM": reduction(np.sum),
    "TRANSPOSE": lambda inputs, options: [inputs[0].transpose(inputs[1])],
}


if __name__ == "__main__":
    main()
