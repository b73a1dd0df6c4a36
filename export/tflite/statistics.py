"""A float32 .tflite + images -> the range of every tensor, by several statistics.

The quantiser's own calibration is a moving average of each image's least and greatest value, which
forgets the first images and clips what is rare and large.
"""

import pathlib
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from export.checks.run_standalone import feeds, first_signature
from export.images import Images
from export.tflite.flatbuffer import read_model

THREADS = 2
SAMPLED = 4096  # values of a tensor, of each image, from which percentiles are taken
TAIL = 0.001  # fraction of the values that "percentile" leaves out at either end

Ranges = dict[str, dict[str, float]]  # {tensor: {"min", "max"}}, as the quantiser takes them


def tensor_values(path: str | pathlib.Path, images: Images) -> Iterator[dict[str, np.ndarray]]:
    """Yields, for every image, {name: values} of the tensors that operations compute in float32.

    Args:
        path: the file.
        images: Images.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning: Enabling `experimental_preserve_all_tensors`")
        interpreter = Interpreter(
            str(path),
            num_threads=THREADS,
            # XNNPACK fuses operations and does not show the tensors between them; one operation at
            # a time is as fast, and several times as fast as without XNNPACK.
            experimental_disable_delegate_node_fusion=True,
            experimental_preserve_all_tensors=True,
        )
    graph = read_model(path).subgraphs[0]
    computed = {output for operator in graph.operators for output in operator.outputs}
    names = {
        index: graph.tensors[index].name.decode()
        for index in sorted(computed | set(graph.inputs))
        if graph.tensors[index].type == schema.TensorType.FLOAT32
    }
    runner = interpreter.get_signature_runner(first_signature(interpreter))
    for feed in feeds(interpreter, images.pixels, images.mean, images.std):
        runner(**feed)
        yield {name: interpreter.get_tensor(index) for index, name in names.items()}


def gather_statistics(path: str | pathlib.Path, images: Images) -> dict[str, Ranges]:
    """Runs all images once.

    Args:
        path: the float32 file.
        images: Images to calibrate on.

    Returns:
        {name of a statistic: {tensor: {"min", "max"}}}, the keys of STATISTICS: the range of all
        images; the average of each image's range; the average of each image's percentiles.
    """
    limits: dict[str, list[np.ndarray]] = {}  # (statistics, 2) of every image
    for tensors in tensor_values(path, images):
        for name, values in tensors.items():
            limits.setdefault(name, []).append(_limits(values))
    stacked = {name: np.stack(rows) for name, rows in limits.items()}
    return {
        statistic: {name: _range(combine(rows)) for name, rows in stacked.items()}
        for statistic, combine in STATISTICS.items()
    }


def _limits(values):
    """[[least, greatest], [low percentile, high percentile]] of an image's values."""
    flat = values.ravel()
    sample = flat[:: max(1, flat.size // SAMPLED)]
    return np.array([[flat.min(), flat.max()], np.quantile(sample, [TAIL, 1 - TAIL])])


def _range(limits):
    least, greatest = limits
    if least == greatest == 0:
        greatest = 1.0  # a scale of 0 is not valid
    return {"min": float(least), "max": float(greatest)}


# Limits (images, 2 kinds, 2) -> the limits to quantise for, (2,).
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "range": lambda rows: np.array([rows[:, 0, 0].min(), rows[:, 0, 1].max()]),
    "average": lambda rows: rows[:, 0].mean(axis=0),
    "percentile": lambda rows: rows[:, 1].mean(axis=0),
}
