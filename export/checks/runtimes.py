"""Artefact + samples -> what it answers, how fast, in how much memory, in its own runtime.

Each runs in processes of its own, which know nothing of this project.
"""

import pathlib
import pickle
import subprocess
import sys

from export.checks.verify import Run
from vit_keras.utils.errors import InputError

LATENCY_RUNS = 30
THREADS = (1, 2)
SCRIPT = pathlib.Path(__file__).with_name("run_standalone.py")


def run_standalone(runtime, path, samples, preprocessing) -> Run:
    """Runs an artefact.

    Args:
        runtime: a key of `export.run_standalone.RUNTIMES`.
        path: of the artefact.
        samples: Samples.
        preprocessing: Preprocessing.

    Raises:
        InputError: where it does not run; the runtime's own words are in it.
    """
    milliseconds, memories = {}, []
    for threads in THREADS:
        # All images with all threads; a process that has seen one tells the memory that takes.
        pixels = samples.pixels if threads == THREADS[-1] else samples.pixels[:1]
        normalisation = preprocessing.mean, preprocessing.std
        task = (runtime, str(path), threads, samples.files, pixels, *normalisation, LATENCY_RUNS)
        result = subprocess.run(
            [sys.executable, "-P", str(SCRIPT)],
            input=pickle.dumps(task),
            capture_output=True,
            check=False,
        )
        if result.returncode:
            reason = result.stderr.decode(errors="replace").strip().split("\n")[-1]
            raise InputError(f"the artefact does not run: {reason or result.returncode}")
        answers, milliseconds[threads], memory = pickle.loads(result.stdout)
        memories.append(memory)
    return Run(answers, milliseconds, memories[0])
