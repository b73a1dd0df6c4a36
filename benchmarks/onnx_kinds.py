"""A trained model -> its kinds of .onnx, and int8 made in other ways: accuracy and CPU time.

python -m benchmarks.onnx_kinds runs/fashion_mini/model.keras

All are judged in onnxruntime on the same images, those of an export. CPU time is the median of one
image with one thread.
"""

import argparse
import logging
import pathlib
import statistics
import tempfile
import time
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
from tabulate import tabulate

from benchmarks.machine import describe_machine
from export.checks.verify import Samples
from export.export import load, load_subject, prepared
from export.formats import FORMATS
from export.onnx.quantize import (
    STATIC,
    CalibrationImages,
    products_of_activations,
    with_shapes,
)
from export.options import Options
from export.source import Source

# What differs from the static int8 of an export.
OTHER_WAYS: dict[str, dict[str, Any]] = {
    "int8, products of attention too": {"nodes_to_exclude": []},
    "int8, weights of 8 bits": {"reduce_range": False},
    "int8, signed activations": {"activation_type": QuantType.QInt8},
    "int8, one scale per tensor": {"per_channel": False},
    "int8, 99.99 % of the values": {
        "calibrate_method": CalibrationMethod.Percentile,
        "extra_options": {"CalibPercentile": 99.99},
    },
    "int8, entropy": {"calibrate_method": CalibrationMethod.Entropy},
    "int8, additions too": {"op_types_to_quantize": ["MatMul", "Gemm", "Conv", "Add"]},
    "int8, every operation": {"op_types_to_quantize": None, "nodes_to_exclude": []},
}
RUNS = 200


def main() -> None:
    """Writes and judges the files, and prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.onnx_kinds")
    parser.add_argument("model", help="a .keras file in a run folder")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    subject = load_subject(*load(arguments.model, Options()), "", "", 1000, Options())
    rows = []
    with prepared(subject, "onnx") as source, tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        for name, kind in FORMATS["onnx"].kinds.items():
            kind.write(source, path)
            rows.append({"file": name, **judge(path, subject.samples)})
        for name, changes in OTHER_WAYS.items():
            write_static(source, path, changes)
            rows.append({"file": name, **judge(path, subject.samples)})
    print(describe_machine("onnxruntime", "onnx", "tf2onnx", "numpy"), end="\n\n")
    print(tabulate(rows, "keys", "github", disable_numparse=True))


def write_static(source: Source, path: pathlib.Path, changes: dict[str, Any]) -> None:
    """Writes static int8 with other arguments of the quantiser."""
    with with_shapes(source) as inferred:
        arguments = {**STATIC, "nodes_to_exclude": products_of_activations(inferred), **changes}
        quantize_static(inferred, path, CalibrationImages(source), **arguments)


def judge(path: pathlib.Path, samples: Samples) -> dict[str, str]:
    """Runs a file on the images; returns a row of the table."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def ask(images: np.ndarray) -> np.ndarray:
        return session.run(["probabilities"], {"images": images})[0]

    batches = np.array_split(samples.pixels, range(32, len(samples.pixels), 32))
    answers = np.concatenate([ask(batch) for batch in batches])
    expected, labels = samples.expected["probabilities of pixels"], samples.labels
    best = answers.argmax(axis=1)
    seconds = []
    for _ in range(RUNS):
        start = time.process_time()
        ask(samples.pixels[:1])
        seconds.append(time.process_time() - start)
    return {
        "accuracy": f"{(best == labels).mean():.1%}",
        "same label": f"{(best == expected.argmax(axis=1)).mean():.1%}",
        "probability moved": f"{np.abs(answers - expected).sum(axis=1).mean() / 2:.4f}",
        "max difference": f"{np.abs(answers - expected).max():.4f}",
        "MB": f"{path.stat().st_size / 1e6:.2f}",
        "CPU ms": f"{1000 * statistics.median(seconds):.2f}",
    }


if __name__ == "__main__":
    main()
