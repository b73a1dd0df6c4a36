"""A float32 .tflite + images -> the same model in fewer bits: half floats, dynamic int8, int16.

Every kind is made from the one float32 file, by AI Edge Quantizer.
"""

import contextlib
import dataclasses
import io
import pathlib
import re

from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import qtyping, quantizer
from ai_edge_quantizer.algorithm_manager import AlgorithmName

from export.checks.run_standalone import feeds
from export.tflite.flatbuffer import graph_operations

THREADS = 2

# What is quantised together: the part's name -> (its layers, as they stand in the names of tensors;
# its operations). An operation belongs to the first part that fits; one that fits none stays in
# float: the normalisation of pixels, pooling, the last softmax. Operations with weights are parts
# of their own.
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
NOT_IN_16_BITS = ("layer norms",)  # of which LiteRT lacks operations


@dataclasses.dataclass(frozen=True)
class Part:
    """Operations that are quantised together.

    Attributes:
        name: for people.
        operations: {an operation's name: the names of the tensors that it makes}.
    """

    name: str
    operations: dict[str, list[str]]


class StaticQuantizer:
    """Quantises chosen parts of a float32 file, weights and activations, calibrated once.

    Args:
        source: the .tflite file.
        images: Images to calibrate on.
        bits: of the activations, 8 or 16.

    Attributes:
        parts: what can be quantised.
    """

    def __init__(self, source, images, bits):
        self.source = source
        self.bits = bits
        left_out = NOT_IN_16_BITS if bits == 16 else ()
        self.parts = [part for part in find_parts(source) if part.name not in left_out]
        fed = list(feeds(Interpreter(str(source)), images.pixels, images.mean, images.std))
        with _quiet():
            self.statistics = self._recipe(self.parts).calibrate(
                {"serving_default": fed}, num_threads=THREADS
            )

    def write(self, parts, path):
        """Writes the file with these parts quantised, and other weights as `dynamic` has them."""
        _write(self._recipe(parts), path, self.statistics)

    def _recipe(self, parts):
        recipe = _dynamic(self.source)
        for part in parts:
            for operation, tensors in part.operations.items():
                names = "|".join(map(re.escape, tensors))
                recipe.add_static_config(f"^({names});", operation, self.bits, 8)
        return recipe


def find_parts(path):
    """The parts of the graph in a .tflite file, in the order of their first operations."""
    found: dict[str, dict[str, list[str]]] = {}
    for operation, tensor in graph_operations(path):
        name = _part_of(operation, tensor)
        if name:
            found.setdefault(name, {}).setdefault(operation, []).append(tensor)
    return [Part(name, members) for name, members in found.items()]


def _part_of(operation, tensor):
    if operation in WEIGHTED:
        return _layer_of(tensor)
    for name, (layers, members) in PARTS.items():
        if operation in members and re.search(layers, tensor):
            return name
    return None


def _layer_of(tensor):
    """'vit_1/block_0_1/norm1_1/mul;vit_1/block_0_1/mlp_1/expand_1/Add' -> 'block_0/mlp/expand'"""
    layers = re.findall(r"[^;]+?/([^;]+)/(?:Tensordot|MatMul|BiasAdd|convolution)", tensor)
    return re.sub(r"_\d+(?=/|$)", "", (layers or [tensor])[-1])


def write_float16(source, path, images, options):
    """Weights in half precision, a file half as large; arithmetic stays in float32."""
    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights,
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    recipe = quantizer.Quantizer(str(source))
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    recipe.update_quantization_recipe(".*", everything, config, AlgorithmName.FLOAT_CASTING)
    _write(recipe, path)


def write_dynamic(source, path, images, options):
    """Weights of 8 bits; what they multiply is brought to 8 bits anew for each image."""
    _write(_dynamic(source), path)


def write_int16x8(source, path, images, options):
    """Weights of 8 bits, activations of 16, but for the layer norms."""
    static = StaticQuantizer(source, images["calibration"], 16)
    static.write(static.parts, path)


def _dynamic(source):
    recipe = quantizer.Quantizer(str(source))
    for operation in WEIGHTED:
        recipe.add_dynamic_config(".*", operation, num_bits=8)
    return recipe


def _write(recipe, path, statistics=None):
    with _quiet():
        result = recipe.quantize(statistics, enable_progress_report=False)
    pathlib.Path(path).write_bytes(result.quantized_model)


@contextlib.contextmanager
def _quiet():
    """Without the progress bars of the quantiser"""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
