"""model.keras -> SavedModel for TF Serving: image bytes in, labels and probabilities out."""

import pathlib

import keras
import tensorflow as tf

from export.metadata import class_labels, metadata_files
from vit_keras.decoding import decode_image

TOP_K = 5


def write_saved_model(model, folder):
    """Writes a SavedModel with three signatures.

    | signature | input | outputs |
    | --- | --- | --- |
    | serving_default | `image_bytes` string (batch,): JPEG, PNG, BMP, GIF, WebP | below |
    | serve_images | `images` uint8 (batch, height, width, channels), any size | below |
    | serve_logits | `images` float32, normalised, the model's size | `logits` (batch, classes) |

    The first two return `probabilities` float32 (batch, classes), in the order of the classes, and
    of the k <= 5 most probable, best first, `labels` string, `scores` float32 and `classes` int32,
    all (batch, k). Bytes that are no image fail the request and are named by their position in the
    batch. The folder assets.extra holds labels.txt, a class a line, and preprocessing.json, what
    serve_logits expects.

    Args:
        model: ViT.
        folder: path that does not exist.
    """
    height, width, channels = model.input_shape[1:]
    labels = tf.constant(class_labels(model))

    def answer(images):
        probabilities = tf.nn.softmax(model(images))
        scores, classes = tf.math.top_k(probabilities, min(TOP_K, labels.shape[0]))
        return {
            "probabilities": probabilities,
            "classes": classes,
            "labels": tf.gather(labels, classes),
            "scores": scores,
        }

    def serving_default(image_bytes):
        return answer(decode_batch(image_bytes, model.preprocessing))

    def serve_images(images):
        return answer(model.preprocessing(images))

    def serve_logits(images):
        return {"logits": model(images)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    for function, spec in (
        (serving_default, tf.TensorSpec((None,), tf.string, "image_bytes")),
        (serve_images, tf.TensorSpec((None, None, None, channels), tf.uint8, "images")),
        (serve_logits, tf.TensorSpec((None, height, width, channels), tf.float32, "images")),
    ):
        archive.add_endpoint(function.__name__, function, input_signature=[spec])
    archive.write_out(folder, verbose=False)
    extra = pathlib.Path(folder) / "assets.extra"
    extra.mkdir()
    for name, text in metadata_files(model, model.class_names).items():
        (extra / name).write_text(text, encoding="utf-8")


def decode_batch(image_bytes, preprocessing):
    """Decodes and preprocesses a batch of image files, in parallel.

    Args:
        image_bytes: string tensor (batch,).
        preprocessing: Preprocessing.

    Returns:
        float32 tensor (batch, height, width, channels), normalised.

    Raises:
        tf.errors.InvalidArgumentError: naming the positions of those that cannot be decoded.
    """

    def decode(position, encoded):
        return position, preprocessing(decode_image(encoded, preprocessing.channels))

    # Undecodable images are dropped on the way; who is missing afterwards is known by position.
    # A blank image at the end keeps the batch from being empty.
    count = tf.size(image_bytes, tf.int64)
    dataset = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    dataset = dataset.map(decode, tf.data.AUTOTUNE).ignore_errors()
    blank = tf.zeros((*preprocessing.image_size, preprocessing.channels))
    dataset = dataset.concatenate(tf.data.Dataset.from_tensors((count, blank)))
    decoded, images = dataset.batch(count + 1).get_single_element()
    missing = tf.sets.difference([tf.range(count)], [decoded[:-1]]).values
    whole = tf.debugging.Assert(
        tf.size(missing) == 0,
        ["image_bytes holds no decodable JPEG, PNG, BMP, GIF or WebP at positions", missing],
        summarize=-1,
    )
    with tf.control_dependencies([whole]):
        return tf.identity(images[:-1])
