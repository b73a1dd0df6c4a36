"""Published SavedModel -> what it takes to serve it: warm-up requests, configuration, a README."""

import pathlib
import re
import shutil

import keras
import tensorflow as tf

from export.checks.run_standalone import as_example
from export.endpoints import endpoints_of
from export.options import Options
from export.saved_model.signatures import signature_table
from export.source import Source
from vit_keras.utils.files import write_text

KIT = pathlib.Path(__file__).with_name("serving_kit")  # names between @ are placeholders
WARM_UP = "assets.extra/tf_serving_warmup_requests"  # where TF Serving looks for them


def write_with_warm_up(source: Source, path: pathlib.Path) -> None:
    """Copies a SavedModel and adds requests with real images, one for each signature.

    TF Serving runs them before it accepts others, so that no client waits for the first trace.
    """
    shutil.copytree(source.path, path)
    images = source.images["evaluation"]
    file = images.files[0]
    arguments = {
        "image_bytes": [file],
        "examples": [as_example(file)],
        "images": images.pixels[:1],
    }
    functions = tf.saved_model.load(str(path)).signatures
    with tf.io.TFRecordWriter(str(path / WARM_UP)) as requests:
        for name, function in functions.items():
            _, specs = function.structured_input_signature
            inputs = {key: tf.constant(arguments[key], spec.dtype) for key, spec in specs.items()}
            requests.write(_prediction_log(name, inputs))


def _prediction_log(signature, inputs):
    """A PredictionLog of one PredictRequest, as bytes.

    The numbers of fields are those of tensorflow_serving/apis: prediction_log.proto,
    predict.proto and model.proto. The package tensorflow-serving-api would require a TensorFlow of
    its own version, too much for four messages.
    """
    spec = _message((3, signature.encode()))
    tensors = [
        (2, _message((1, key.encode()), (2, tf.make_tensor_proto(x).SerializeToString())))
        for key, x in inputs.items()
    ]
    return _message((6, _message((1, _message((1, spec), *tensors)))))


def _message(*fields):
    """(number, content), ... -> a protocol buffer, all of whose fields are strings or messages."""
    return b"".join(
        bytes([number << 3 | 2]) + _varint(len(content)) + content for number, content in fields
    )


def _varint(number):
    """Seven bits per byte, the least significant first; the top bit says that more follow."""
    low = [number >> shift & 127 for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([*(byte | 128 for byte in low[:-1]), low[-1]])


def write_kit(model: keras.Model, target: pathlib.Path, options: Options) -> None:
    """Writes, next to the versions of a model, files to start TF Serving with one command.

    These are docker-compose.yml, models.config, batching.config and README.md. A models.config that
    names specific versions was written by the user, and stays.

    Args:
        model: the model in it.
        target: path of the SavedModel, BASE/VERSION.
        options: Options; top_k, max_pixels and attention are used.
    """
    endpoints = endpoints_of(model)
    version = int(target.name)
    earlier = [int(path.name) for path in target.parent.iterdir() if path.name.isdecimal()]
    before = max((number for number in earlier if number < version), default=None)
    values = {
        "version": version,
        "stable": before or version,
        "canary": version if before else version + 1,
        "name": re.sub(r"[^A-Za-z0-9_-]+", "_", model.name),
        "max_pixels": options.max_pixels,
        "rest_answer": endpoints.rest_answer(),
        "client_lines": endpoints.client_lines(),
        "signatures": signature_table(model, options),
        "raw": endpoints.raw,
    }
    for file in KIT.iterdir():
        if _names_versions(target.parent / file.name):
            continue
        text = file.read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        write_text(target.parent / file.name, text)


def _names_versions(path):
    """Whether a file is a models.config with specific versions, comments aside."""
    if path.name != "models.config" or not path.exists():
        return False
    return re.search(r"^[^#\n]*\bspecific\b", path.read_text(encoding="utf-8"), re.MULTILINE)
