"""A float32 .tflite + images -> the same model in fewer bits: half floats, dynamic int8, int16.

LiteRT Quantizer makes every kind from the same float32 file.
"""

import contextlib
import dataclasses
import io
import pathlib
import re
from collections.abc import Iterator, Sequence

from ai_edge_litert.interpreter import Interpreter
from litert_quantizer import qtyping, quantizer
from litert_quantizer.algorithm_manager import AlgorithmName

from export.checks.run_standalone import feeds
from export.images import Images
from export.source import Source
from export.tflite.flatbuffer import graph_operations

THREADS = 2

# Operations that are quantised together: name of the part -> (pattern of the layers in the names of
# tensors, names of operations). An operation belongs to the first part that matches. Operations
# without a part stay in float: the normalisation of pixels, pooling, the last softmax. Every layer
# with weights is a part of its own.
PARTS = {
    "embedding": (
        r"/patches|/stem|/patch_encoder",
        ("PAD", "STRIDED_SLICE", "CONCATENATION", "RESHAPE", "TRANSPOSE", "ADD"),
    ),
    "layer norms": (r"norm", ("MEAN", "SUB", "SQUARED_DIFFERENCE", "ADD", "RSQRT", "MUL")),
    "softmax": (r"/attention", ("SOFTMAX",)),
    "attention": (r"/attention", ("BATCH_MATMUL", "MUL", "SPLIT", "RESHAPE", "TRANSPOSE")),
    "activations": (r"/mlp", ("GELU", "LOGISTIC", "MUL", "SPLIT")),
    "residual additions": (r"/block_\d+(_\d+)?/add", ("ADD",)),
}
WEIGHTED = ("FULLY_CONNECTED", "CONV_2D")
NOT_IN_16_BITS = ("layer norms",)  # LiteRT lacks some of their operations


@dataclasses.dataclass(frozen=True)
class Part:
    """Operations that are quantised together.

    Attributes:
        name: for the report.
        operations: {name of an operation: names of its output tensors}.
    """

    name: str
    operations: dict[str, list[str]]


class StaticQuantizer:
    """Quantises weights and activations of chosen parts of a float32 file, calibrated once.

    Args:
        path: the .tflite file.
        images: Images to calibrate on.
        bits: of the activations, 8 or 16.

    Attributes:
        parts: the parts that can be quantised.
    """

    def __init__(self, path: str | pathlib.Path, images: Images, bits: int) -> None:
        self.path = path
        self.bits = bits
        float_parts = NOT_IN_16_BITS if bits == 16 else ()
        self.parts = [part for part in find_parts(path) if part.name not in float_parts]
        inputs = list(feeds(Interpreter(str(path)), images.pixels, images.mean, images.std))
        with _quiet():
            self.statistics = self._recipe(self.parts).calibrate(
                {"serving_default": inputs}, num_threads=THREADS
            )

    def write(self, parts: Sequence[Part], path: str | pathlib.Path) -> None:
        """Writes the file with these parts quantised; other weights as in `write_dynamic`."""
        _write(self._recipe(parts), path, self.statistics)

    def _recipe(self, parts):
        recipe = _dynamic(self.path)
        for part in parts:
            for operation, tensors in part.operations.items():
                names = "|".join(map(re.escape, tensors))
                recipe.add_static_config(f"^({names});", operation, self.bits, 8)
        return recipe


def find_parts(path: str | pathlib.Path) -> list[Part]:
    """The parts of the graph in a .tflite file, in the order of their first operations."""
    parts: dict[str, dict[str, list[str]]] = {}
    for operation, tensor in graph_operations(path):
        name = _part_of(operation, tensor)
        if name:
            parts.setdefault(name, {}).setdefault(operation, []).append(tensor)
    return [Part(name, operations) for name, operations in parts.items()]


def _part_of(operation, tensor):
    if operation in WEIGHTED:
        return _layer_of(tensor)
    for name, (layers, operations) in PARTS.items():
        if operation in operations and re.search(layers, tensor):
            return name
    return None


def _layer_of(tensor):
    """'vit_1/block_0_1/norm1_1/mul;vit_1/block_0_1/mlp_1/expand_1/Add' -> 'block_0/mlp/expand'."""
    layers = re.findall(r"[^;]+?/([^;]+)/(?:Tensordot|MatMul|BiasAdd|convolution)", tensor)
    return re.sub(r"_\d+(?=/|$)", "", (layers or [tensor])[-1])


def write_float16(source: Source, path: pathlib.Path) -> None:
    """Writes weights in half precision, a file half as large; arithmetic stays in float32."""
    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights,
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    recipe = quantizer.Quantizer(str(source.path))
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    recipe.update_quantization_recipe(".*", everything, config, AlgorithmName.FLOAT_CASTING)
    _write(recipe, path)


def write_dynamic(source: Source, path: pathlib.Path) -> None:
    """Writes weights in 8 bits; their inputs are quantised at run time, for each image."""
    _write(_dynamic(source.path), path)


def write_int16x8(source: Source, path: pathlib.Path) -> None:
    """Writes weights in 8 bits and activations in 16; layer norms stay in float32."""
    static = StaticQuantizer(source.path, source.images["calibration"], 16)
    static.write(static.parts, path)


def _dynamic(path):
    recipe = quantizer.Quantizer(str(path))
    for operation in WEIGHTED:
        recipe.add_dynamic_config(".*", operation, num_bits=8)
    return recipe


def _write(recipe, path, statistics=None):
    with _quiet():
        result = recipe.quantize(statistics, enable_progress_report=False)
    pathlib.Path(path).write_bytes(result.quantized_model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the progress bars of the quantiser."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
