"""A .tflite file + images -> what LiteRT's GPU engine makes of it: operations and answers.

It is the engine of phones' GPUs (ML Drift). Without a GPU it runs on SwiftShader, a software Vulkan
that Debian's package chromium contains; its arithmetic is then float32, while phones' is float16.
As a script this file reads a pickled task from standard input, and writes the results to standard
output.
"""

import dataclasses
import os
import pathlib
import pickle
import re
import subprocess
import sys
from typing import Any

import numpy as np

from export.checks.run_standalone import in_floats

SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json"
SECONDS = 600  # to compile all kernels and run all images, at most


@dataclasses.dataclass(frozen=True)
class GpuRun:
    """What the GPU engine did with a file.

    Attributes:
        device: name of the GPU.
        gpu_operations: operations that it takes.
        cpu_operations: operations that it leaves to the CPU; None of the file runs there if an app
            allows the GPU only.
        refused: its reasons, one for each kind of operation.
        max_difference: largest difference from the CPU's answers; None if it does not take all
            operations.
    """

    device: str
    gpu_operations: int
    cpu_operations: int
    refused: list[str]
    max_difference: float | None


def run_gpu_engine(
    path: str | pathlib.Path,
    operations: int,
    answers: dict[str, np.ndarray],
    images: np.ndarray,
    scales: dict[str, tuple[float, int]] | None = None,
) -> GpuRun | None:
    """Compiles a file for the GPU engine, and compares its answers with the CPU's.

    Args:
        path: of the file, which takes one image.
        operations: the number of operations in it.
        answers: {output: array (count, ...)}, the CPU's.
        images: (count, height, width, channels), as the file takes them.
        scales: {output: (scale, zero point)} of outputs in integers.

    Returns:
        GpuRun; None on a machine without an engine.
    """
    task = {"path": str(path), "images": images}
    environment = dict(os.environ)
    if pathlib.Path(SWIFTSHADER).exists():
        environment.setdefault("VK_ICD_FILENAMES", SWIFTSHADER)
    result = subprocess.run(
        [sys.executable, "-P", __file__],
        input=pickle.dumps(task),
        capture_output=True,
        env=environment,
        timeout=SECONDS,
        check=False,
    )
    log = result.stderr.decode(errors="replace")
    device = re.search(r"Selected adapter: ([^,(]+)", log)
    if device is None:
        return None
    name = device[1].strip()
    if not result.returncode:
        found = {
            key: in_floats(array, *(scales or {}).get(key, (0, 0)))
            for key, array in pickle.loads(result.stdout).items()
        }
        difference = max(float(np.abs(found[key] - answers[key]).max()) for key in found)
        return GpuRun(name, operations, 0, [], difference)
    counts = re.search(r"(\d+) operations will run on the GPU, and the remaining (\d+)", log)
    if counts is None:
        crash = re.findall(r"^F\d{4} .*\] (.+)$", log, re.MULTILINE)
        return GpuRun(name, 0, operations, [f"the engine crashes: {line}" for line in crash], None)
    on_gpu, on_cpu = map(int, counts.groups())
    return GpuRun(name, on_gpu, on_cpu, _reasons(log), None)


def _reasons(log: str) -> list[str]:
    """The lines of a log that say which operation is refused and why."""
    lines = re.findall(r"^([A-Z][A-Z0-9_]{2,}: .+)$", log, re.MULTILINE)
    reasons = [line for line in lines if not re.match("ERROR|INFO|WARNING|FATAL", line)]
    # Names of tensors follow some of them.
    return sorted({re.split(r"\s+\S*[/:;]\S*(?:\s|$)", reason)[0] for reason in reasons})


def main() -> None:
    """Reads the task, runs the file on the GPU alone, and writes {output: array (count, ...)}."""
    from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator

    task: dict[str, Any] = pickle.load(sys.stdin.buffer)
    output = os.dup(1)
    os.dup2(2, 1)  # the engine's log goes to standard error, wherever it is written to
    model = CompiledModel.from_file(task["path"], HardwareAccelerator.GPU)
    signature = model.get_signature_by_index(0)
    details = model.get_output_tensor_details(signature["key"])
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    answers: dict[str, list[np.ndarray]] = {name: [] for name in signature["outputs"]}
    for image in task["images"]:
        inputs[0].write(np.ascontiguousarray(image))
        model.run_by_index(0, inputs, outputs)
        for name, buffer in zip(answers, outputs, strict=True):
            shape, dtype = details[name]["shape"], np.dtype(details[name]["dtype"]).type
            answers[name].append(buffer.read(int(np.prod(shape)), dtype).reshape(shape)[0])
    with os.fdopen(output, "wb") as file:
        pickle.dump({name: np.stack(arrays) for name, arrays in answers.items()}, file)


if __name__ == "__main__":
    main()
