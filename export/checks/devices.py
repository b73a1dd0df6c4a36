"""A finished .tflite file -> the runtimes and accelerators that take it."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from export.checks.gpu_engine import run_gpu_engine
from export.checks.run_standalone import feeds, first_signature
from export.checks.verify import Run, Samples
from export.images import Images
from export.tflite.flatbuffer import count_operations, read_model
from export.tflite.half_range import check_half_range
from export.tflite.partitions import count_integer_operations
from export.tflite.versions import least_runtime
from vit_keras.images.preprocessing import Preprocessing

GPU_IMAGES = 4
HALF_IMAGES = 16  # whose tensors are checked for float16


def tflite_devices(
    path: pathlib.Path, run: Run, samples: Samples, preprocessing: Preprocessing
) -> dict[str, Any]:
    """Which runtimes, GPUs and integer accelerators take a file.

    Args:
        path: the file.
        run: what it did on the CPU.
        samples: Samples that it ran.
        preprocessing: Preprocessing of float32 inputs.

    Returns:
        {"least_runtime": the oldest that reads it, "integer": what `count_integer_operations`
        returns, "gpu": GpuRun as a dict, or None where there is no GPU engine, or for a batch,
        "half_range": of a file in float, what `check_half_range` returns}.
    """
    interpreter = Interpreter(str(path))
    pixels = samples.pixels[:GPU_IMAGES]
    batches = feeds(interpreter, pixels, preprocessing.mean, preprocessing.std)
    images = np.concatenate([batch for feed in batches for batch in feed.values()])
    gpu = None
    if len(images) == len(pixels):  # one image per call
        answers = {
            name.removesuffix(" of pixels"): array[:GPU_IMAGES] for name, array in run.answers
        }
        runner = interpreter.get_signature_runner(first_signature(interpreter))
        scales = {
            name: details["quantization"] for name, details in runner.get_output_details().items()
        }
        gpu = run_gpu_engine(path, sum(count_operations(path).values()), answers, images, scales)
    integer = count_integer_operations(path)
    half_range = None
    if not integer["integer"]:
        few = Images(samples.pixels[:HALF_IMAGES], None, [], preprocessing.mean, preprocessing.std)
        half_range = check_half_range(path, few)
    return {
        "least_runtime": least_runtime(read_model(path)),
        "integer": integer,
        "gpu": None if gpu is None else dataclasses.asdict(gpu),
        "half_range": half_range,
    }
