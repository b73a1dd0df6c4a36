"""A .tflite file + images -> answers, time and memory, by LiteRT alone, without this project.

Run as a script of its own; pickles come in on standard input and go out on standard output.
"""

import pathlib
import pickle
import re
import statistics
import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main():
    path, threads, _, pixels, mean, std, runs = pickle.load(sys.stdin.buffer)
    before = _peak()
    interpreter = Interpreter(path, num_threads=threads)
    batch = interpreter.get_input_details()[0]["shape"][0]
    classify(interpreter, pixels[:batch], mean, std)  # to warm up
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - start)
    milliseconds, memory = 1000 * statistics.median(seconds) / batch, _peak() - before
    answers = [("pixels", classify(interpreter, pixels, mean, std))]
    pickle.dump((answers, milliseconds, memory), sys.stdout.buffer)


def classify(interpreter, pixels, mean=None, std=None):
    """Probabilities for uint8 images (count, height, width, channels), batch by batch

    Args:
        interpreter: of a file that takes uint8, or float32 images, normalised.
        mean, std: by which they are, for each channel, in fractions of 255.
    """
    runner = interpreter.get_signature_runner()
    answers = [next(iter(runner(**f).values())) for f in feeds(interpreter, pixels, mean, std)]
    return np.concatenate(answers)[: len(pixels)]


def feeds(interpreter, pixels, mean=None, std=None):
    """The images as {name of the input: a batch of what the file takes}; zeros fill the last."""
    ((name, taken),) = interpreter.get_signature_runner().get_input_details().items()
    batch = taken["shape"][0]
    for start in range(0, len(pixels), batch):
        images = pixels[start : start + batch]
        images = np.pad(images, [(0, batch - len(images)), (0, 0), (0, 0), (0, 0)])
        if taken["dtype"] == np.float32:
            images = ((images / 255 - mean) / std).astype("float32")
        yield {name: images}


def _peak():
    """The most memory this process has had so far, MB; Linux tells"""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) * 1024 / 1e6


if __name__ == "__main__":
    main()
