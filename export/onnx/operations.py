"""A .onnx file -> the operations in its graph."""

import collections
import pathlib

import onnx


def count_operations(path: str | pathlib.Path) -> dict[str, int]:
    """{name: count} of the operations in a .onnx file, the most frequent first."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    return dict(collections.Counter(node.op_type for node in nodes).most_common())
