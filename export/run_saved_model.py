"""SavedModel + images -> answers of every signature, by TensorFlow alone, without this project.

Run as a script of its own; pickles come in on standard input and go out on standard output.
"""

import pathlib
import pickle
import re
import statistics
import sys
import time

import numpy as np
import tensorflow as tf

BATCH_SIZE = 32


def main():
    path, threads, files, pixels, mean, std, runs = pickle.load(sys.stdin.buffer)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    before = _peak()
    signatures = tf.saved_model.load(path).signatures
    seconds = []
    for _ in range(1 + runs):
        start = time.perf_counter()
        signatures["serving_default"](image_bytes=tf.constant(files[:1]))
        seconds.append(time.perf_counter() - start)
    milliseconds, memory = 1000 * statistics.median(seconds[1:]), _peak() - before
    answers = _answers(signatures, files, pixels, mean, std)
    pickle.dump((answers, milliseconds, memory), sys.stdout.buffer)


def _answers(signatures, files, pixels, mean, std):
    serve, serve_images, serve_logits = (
        signatures[name] for name in ("serving_default", "serve_images", "serve_logits")
    )
    decoded = [tf.io.decode_png(file)[tf.newaxis] for file in files]
    logits = []
    for start in range(0, len(pixels), BATCH_SIZE):
        images = (pixels[start : start + BATCH_SIZE] / 255 - mean) / std
        logits.append(serve_logits(images=tf.constant(images, tf.float32))["logits"])
    return [
        ("files", serve(image_bytes=tf.constant(files))["probabilities"].numpy()),
        ("files", np.concatenate([serve_images(images=i)["probabilities"] for i in decoded])),
        ("logits", np.concatenate(logits)),
    ]


def _peak():
    """The most memory this process has had so far, MB; Linux tells"""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) * 1024 / 1e6


if __name__ == "__main__":
    main()
