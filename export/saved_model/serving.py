"""Published SavedModel -> what it takes to serve it: warm-up requests, configuration, a README."""

import pathlib
import re
import shutil

import tensorflow as tf

from export.checks.run_standalone import as_example
from vit_keras.utils.files import write_text

KIT = pathlib.Path(__file__).with_name("serving_kit")  # what stands between @ is filled in
WARM_UP = "assets.extra/tf_serving_warmup_requests"  # where TF Serving looks for them


def write_warm(source, path, images, options):
    """Copies a SavedModel and adds requests with real images, one for each signature.

    TF Serving answers them before it takes others, so that nobody waits for the first trace.
    """
    shutil.copytree(source, path)
    file, pixels = images["evaluation"].files[0], images["evaluation"].pixels[:1]
    functions = tf.saved_model.load(str(path)).signatures
    given = {"image_bytes": [file], "examples": [as_example(file)], "images": pixels}
    with tf.io.TFRecordWriter(str(path / WARM_UP)) as requests:
        for name, function in functions.items():
            _, specs = function.structured_input_signature
            inputs = {key: tf.constant(given[key], spec.dtype) for key, spec in specs.items()}
            requests.write(_prediction_log(name, inputs))


def _prediction_log(signature, inputs):
    """A PredictionLog of one PredictRequest, as bytes.

    The numbers of fields are those of tensorflow_serving/apis: prediction_log.proto,
    predict.proto and model.proto. Their package asks for a TensorFlow as new as itself, which is
    much for four messages.
    """
    spec = _message((3, signature.encode()))
    tensors = [
        (2, _message((1, key.encode()), (2, tf.make_tensor_proto(x).SerializeToString())))
        for key, x in inputs.items()
    ]
    return _message((6, _message((1, _message((1, spec), *tensors)))))


def _message(*fields):
    """(number, content), ... -> a protocol buffer, all of whose fields are texts or messages"""
    return b"".join(
        bytes([number << 3 | 2]) + _varint(len(content)) + content for number, content in fields
    )


def _varint(number):
    """Seven bits a byte, the least first; the top bit says that more follow"""
    low = [number >> shift & 127 for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([*(byte | 128 for byte in low[:-1]), low[-1]])


def write_kit(target, model, options):
    """Writes beside a version of a model what starts TF Serving with one command.

    That is docker-compose.yml, models.config, batching.config and README.md.

    Args:
        target: path of the SavedModel, BASE/VERSION.
        model: the ViT in it.
        options: Options.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", model.name)
    height, width = model.config.image_size
    rows, columns = model.config.grid
    attention = ATTENTION.format(rows=rows, columns=columns) if options.attention else ""
    values = {
        "name": name,
        "height": height,
        "width": width,
        "channels": model.config.channels,
        "classes": model.config.num_classes,
        "embedding": model.get_layer("head").input.shape[-1],
        "top": min(options.top_k, model.config.num_classes),
        "max_pixels": options.max_pixels,
        "attention": attention,
    }
    for file in KIT.iterdir():
        text = file.read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        write_text(target.parent / file.name, text)


ATTENTION = (
    "| `attention` | `image_bytes` | `attention` (batch, {rows}, {columns}): how much each patch "
    "of the grid counted; a map sums to 1 |\n"
)
