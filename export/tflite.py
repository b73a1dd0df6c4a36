"""model.keras -> one .tflite file for phones: a uint8 image in, probabilities out."""

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

from export.metadata import attach_metadata
from vit_keras.errors import InputError

LATENCY_RUNS = 20


def write_tflite(model, path, input_type="uint8"):
    """Writes a float32 .tflite of batch 1 with static shapes and built-in operations alone.

    Input `images`: (1, height, width, channels) of the model's size; output `probabilities`:
    float32 (1, classes). Resizing is not inside: phones have faster ways. `attach_metadata` says
    what else the file carries.

    Args:
        model: ViT.
        path: the file to write.
        input_type: of `images`: "uint8", normalised inside, or "float32", normalised by the caller.

    Raises:
        InputError: when an operation has no built-in TFLite counterpart; it is named.
    """
    normalise = {"uint8": model.preprocessing.normalise, "float32": tf.identity}[input_type]

    def classify(images):
        return {"probabilities": tf.nn.softmax(model(normalise(images)))}

    spec = tf.TensorSpec((1, *model.input_shape[1:]), input_type, "images")
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serving_default", classify, input_signature=[spec])
        archive.write_out(folder, verbose=False)
        convert_in_subprocess(folder, path)
    attach_metadata(path, model)


def convert_in_subprocess(saved_model, path):
    """SavedModel with one signature -> .tflite; the converter leaks memory on every call."""
    command = [sys.executable, "-m", "export.tflite", str(saved_model), str(path)]
    root = pathlib.Path(__file__).resolve().parent.parent
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = _reason(result.stderr) or f"exit status {result.returncode}"
        raise InputError(f"TFLite conversion failed: {reason}")


def run_tflite(path, samples):
    """Runs the file in LiteRT's interpreter on one thread; see `Format.run`."""
    from ai_edge_litert.interpreter import Interpreter

    classify = Interpreter(str(path), num_threads=1).get_signature_runner()
    rows, seconds = [], []
    for image in [*samples.pixels, *[samples.pixels[0]] * LATENCY_RUNS]:
        start = time.perf_counter()
        rows.append(classify(images=image[np.newaxis])["probabilities"][0])
        seconds.append(time.perf_counter() - start)
    probabilities = np.stack(rows[: len(samples.pixels)])
    return [("pixels", probabilities)], 1000 * statistics.median(seconds[-LATENCY_RUNS:])


def _reason(log):
    """The operations without a built-in counterpart, or the last line of the converter's log."""
    lines = log.strip().split("\n")
    needed = ("Flex ops:", "Custom ops:")
    named = [line.strip() for line in lines if line.strip().startswith(needed)]
    return "; ".join(dict.fromkeys(named)) or lines[-1]


def _convert(saved_model, path):
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    pathlib.Path(path).write_bytes(converter.convert())


if __name__ == "__main__":
    _convert(*sys.argv[1:])
