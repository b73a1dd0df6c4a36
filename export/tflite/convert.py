"""Model -> a float32 .tflite file for phones: an image in, the answer out."""

import pathlib
import subprocess
import sys

import keras
import tensorflow as tf

from export.endpoints.pixels import pixel_function
from export.options import Options
from export.tflite.rewrites import rewrite
from vit_keras.utils.errors import InputError
from vit_keras.utils.files import temporary_folder


def write_tflite(model: keras.Model, path: str | pathlib.Path, options: Options) -> None:
    """Writes a float32 .tflite with static shapes and only built-in operations.

    Resizing is not inside: phones have faster ways.

    Args:
        model: the model as exported.
        path: the file to write.
        options: Options; preprocess, batch and attention are used.

    Raises:
        InputError: when an operation has no built-in TFLite counterpart; the message names it.
    """
    answer, spec = pixel_function(model, options, options.batch or 1)
    with temporary_folder() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serving_default", answer, input_signature=[spec])
        archive.write_out(str(folder), verbose=False)
        convert_in_subprocess(folder, path)


def convert_in_subprocess(saved_model: str | pathlib.Path, path: str | pathlib.Path) -> None:
    """Converts a SavedModel with one signature to .tflite.

    It runs in a process of its own, because the converter leaks memory on every call.

    Args:
        saved_model: the folder.
        path: the file to write.

    Raises:
        InputError: when the conversion fails; the message has the reason.
    """
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
    prefixes = ("Flex ops:", "Custom ops:")
    operations = [line.strip() for line in lines if line.strip().startswith(prefixes)]
    return "; ".join(dict.fromkeys(operations)) or lines[-1]


def _convert(saved_model, path):
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    pathlib.Path(path).write_bytes(converter.convert())
    rewrite(path)


if __name__ == "__main__":
    _convert(*sys.argv[1:])
