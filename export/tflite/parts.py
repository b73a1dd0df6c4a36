"""A float32 .tflite -> the parts of its graph that are quantised together."""

import dataclasses
import json
import pathlib
import re

from litert_quantizer import default_policy

from export.tflite.flatbuffer import graph_operations

# Name of a part -> (pattern of the layers in the names of tensors, names of operations, or None for
# all). An operation belongs to the first part that matches, or to "other operations". Every layer
# with weights is a part of its own.
PARTS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "pixels": (r"(^|/)rescale", None),
    "embedding": (r"/patches|/stem|/patch_encoder", None),
    "layer norms": (r"norm", None),
    "softmax": (r"/attention", ("SOFTMAX",)),
    "attention": (r"/attention", None),
    "activations": (r"/mlp", None),
    "residual additions": (r"/block_\d+(_\d+)?/add", ("ADD",)),
    "rest of blocks": (r"/block_\d+", None),
    "answer": (r"^StatefulPartitionedCall|^probabilities", None),
    "other operations": (r"", None),
}
WEIGHTED = ("FULLY_CONNECTED", "CONV_2D")
BY_BITS = json.loads(default_policy.DEFAULT_JSON_POLICY)["ops_per_config"]


@dataclasses.dataclass(frozen=True)
class Part:
    """Operations that are quantised together.

    Attributes:
        name: for the report.
        operations: {name of an operation: names of its output tensors}.
    """

    name: str
    operations: dict[str, list[str]]


def find_parts(path: str | pathlib.Path, bits: int) -> list[Part]:
    """The parts of the graph in a .tflite file, in the order of their first operations.

    Args:
        path: the float32 file.
        bits: of the activations, 8 or 16; operations that have no such form belong to no part.
    """
    parts: dict[str, dict[str, list[str]]] = {}
    for operation, tensor in graph_operations(path):
        if operation in BY_BITS[f"static_wi8_ai{bits}"]:
            name = _part_of(operation, tensor)
            parts.setdefault(name, {}).setdefault(operation, []).append(tensor)
    # Merging tokens divides, and compares numbers to choose a few: it stays in float.
    return [Part(name, operations) for name, operations in parts.items() if "DIV" not in operations]


def _part_of(operation, tensor):
    if operation in WEIGHTED:
        layer = layer_of(tensor)
        if not re.fullmatch(r"block_\d+", layer):  # a block's own matrix is that of merging
            return layer
    return next(
        name
        for name, (layers, operations) in PARTS.items()
        if re.search(layers, tensor) and (operations is None or operation in operations)
    )


def layer_of(tensor: str) -> str:
    """The layer with weights that computes a tensor, by its name, which lists merged operations.

    "vit_1/block_0_1/norm1_1/mul;vit_1/block_0_1/mlp_1/expand_1/Add" -> "block_0/mlp/expand".
    """
    layers = re.findall(r"[^;]+?/([^;]+)/(?:Tensordot|MatMul|BiasAdd|convolution)", tensor)
    return re.sub(r"_\d+(?=/|$)", "", (layers or [tensor])[-1])
