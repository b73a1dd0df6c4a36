"""ViT -> a float32 .tflite file for phones: an image in, probabilities out."""

import pathlib
import subprocess
import sys
import tempfile

import keras
import tensorflow as tf

from export.endpoints import pixel_classifier
from vit_keras.utils.errors import InputError


def convert(model, path, preprocess="in-graph", batch=1, attention=False):
    """Writes a float32 .tflite with static shapes and built-in operations alone.

    Resizing is not inside: phones have faster ways.

    Args:
        model: ViT.
        path: the file to write.
        preprocess, batch, attention: what it takes and tells, as in `pixel_classifier`.

    Raises:
        InputError: when an operation has no built-in TFLite counterpart; it is named.
    """
    answer, spec = pixel_classifier(model, preprocess, attention, batch)
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serving_default", answer, input_signature=[spec])
        archive.write_out(folder, verbose=False)
        convert_in_subprocess(folder, path)


def convert_in_subprocess(saved_model, path):
    """SavedModel with one signature -> .tflite; the converter leaks memory on every call."""
    paths = [str(pathlib.Path(file).resolve()) for file in (saved_model, path)]
    command = [sys.executable, "-m", "export.tflite.convert", *paths]
    root = pathlib.Path(__file__).resolve().parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = _reason(result.stderr) or f"exit status {result.returncode}"
        raise InputError(f"TFLite conversion failed: {reason}")


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
