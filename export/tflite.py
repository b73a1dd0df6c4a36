"""ViT -> a float32 .tflite file for phones: an image in, probabilities out."""

import pathlib
import subprocess
import sys
import tempfile

import keras
import tensorflow as tf

from vit_keras.errors import InputError

INPUT_TYPES = ("uint8", "float32")


def convert(model, path, input_type="uint8", batch=1):
    """Writes a float32 .tflite with static shapes and built-in operations alone.

    Output `probabilities`: float32 (batch, classes). Resizing is not inside: phones have faster
    ways.

    Args:
        model: ViT.
        path: the file to write.
        input_type: of the input `images` (batch, height, width, channels), of the model's size:
            "uint8", 0..255, or "float32", normalised by the caller.
        batch: images at a time.

    Raises:
        InputError: when an operation has no built-in TFLite counterpart; it is named.
    """
    normalise = model.preprocessing.normalise if input_type == "uint8" else tf.identity

    def classify(images):
        return {"probabilities": tf.nn.softmax(model(normalise(images)))}

    spec = tf.TensorSpec((batch, *model.input_shape[1:]), input_type, "images")
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serving_default", classify, input_signature=[spec])
        archive.write_out(folder, verbose=False)
        convert_in_subprocess(folder, path)


def convert_in_subprocess(saved_model, path):
    """SavedModel with one signature -> .tflite; the converter leaks memory on every call."""
    paths = [str(pathlib.Path(file).resolve()) for file in (saved_model, path)]
    command = [sys.executable, "-m", "export.tflite", *paths]
    root = pathlib.Path(__file__).resolve().parent.parent
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
