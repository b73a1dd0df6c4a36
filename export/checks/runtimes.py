"""Artefact + samples -> its answers, time and memory, in its own runtime.

Each artefact runs in processes of its own, which do not import this project.
"""

import pathlib
import pickle
import subprocess
import sys

from export.checks.verify import Run, Samples
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.utils.errors import InputError

LATENCY_RUNS = 30
THREADS = (1, 2)
SCRIPT = pathlib.Path(__file__).with_name("run_standalone.py")


def run_standalone(
    runtime: str, path: pathlib.Path, samples: Samples, preprocessing: Preprocessing
) -> Run:
    """Runs an artefact with each number of threads.

    Args:
        runtime: a key of `export.checks.run_standalone.RUNTIMES`.
        path: of the artefact.
        samples: Samples.
        preprocessing: Preprocessing of the model; its mean and std are used.

    Returns:
        Run; its answers are those of the run with most threads.

    Raises:
        InputError: when it does not run; the message has the runtime's own words.
    """
    milliseconds, cold_starts, memories = {}, [], []
    for threads in THREADS:
        # Memory is measured in the first run, on one image; the last run answers all images.
        pixels = samples.pixels if threads == THREADS[-1] else samples.pixels[:1]
        task = {
            "runtime": runtime,
            "runs": LATENCY_RUNS,
            "path": str(path),
            "threads": threads,
            "files": samples.files,
            "pixels": pixels,
            "mean": preprocessing.mean,
            "std": preprocessing.std,
        }
        result = subprocess.run(
            [sys.executable, "-P", str(SCRIPT)],
            input=pickle.dumps(task),
            capture_output=True,
            check=False,
        )
        if result.returncode:
            reason = result.stderr.decode(errors="replace").strip().split("\n")[-1]
            raise InputError(f"the artefact does not run: {reason or result.returncode}")
        answers, milliseconds[threads], cold_start, memory = pickle.loads(result.stdout)
        cold_starts.append(cold_start)
        memories.append(memory)
    return Run(answers, milliseconds, cold_starts[0], memories[0])
