"""Artefact + samples -> what it answers, how fast, in how much memory, in its own runtime.

Each runs in processes of its own, which know nothing of this project.
"""

import pathlib
import pickle
import subprocess
import sys

from export.verify import Run
from vit_keras.errors import InputError

LATENCY_RUNS = 30
THREADS = (1, 2)


def run_tflite(path, samples, preprocessing) -> Run:
    """In LiteRT's interpreter."""
    return _run("run_tflite.py", path, samples, preprocessing)


def run_saved_model(path, samples, preprocessing) -> Run:
    """By TensorFlow alone, every signature.

    The times are those of `serving_default` with one image, decoding included.
    """
    return _run("run_saved_model.py", path, samples, preprocessing)


def _run(script, path, samples, preprocessing):
    command = [sys.executable, "-P", str(pathlib.Path(__file__).with_name(script))]
    milliseconds, memories = {}, []
    for threads in THREADS:
        # All images with all threads; a process that has seen one tells the memory that takes.
        pixels = samples.pixels if threads == THREADS[-1] else samples.pixels[:1]
        normalisation = preprocessing.mean, preprocessing.std
        task = (str(path), threads, samples.files, pixels, *normalisation, LATENCY_RUNS)
        result = subprocess.run(command, input=pickle.dumps(task), capture_output=True, check=False)
        if result.returncode:
            reason = result.stderr.decode(errors="replace").strip().split("\n")[-1]
            raise InputError(f"the artefact does not run: {reason or result.returncode}")
        answers, milliseconds[threads], memory = pickle.loads(result.stdout)
        memories.append(memory)
    return Run(answers, milliseconds, memories[0])
