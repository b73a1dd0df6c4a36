"""ViT -> SavedModel for TF Serving: image bytes in, labels and probabilities out."""

import pathlib
import statistics
import time

import tensorflow as tf

from export.endpoints import embedder
from export.labels import class_labels, metadata_files
from vit_keras.explain import attention_rollout
from vit_keras.images.decoding import decode_image

RUNS = 20  # of each way, to find the faster one
WORTH = 0.95  # of the time, for compiling by XLA


def write_saved_model(model, folder, options):
    """Writes a SavedModel with the signatures that `signatures` tells.

    The folder assets.extra holds labels.txt, a class a line, and preprocessing.json, what
    serve_logits expects.

    Args:
        model: ViT.
        folder: path that does not exist.
        options: Options.
    """
    module = tf.Module()
    # Not Keras's ExportArchive, which writes every weight twice.
    module.weights = [weight.value for weight in model.weights]
    functions = {
        name: tf.function(function, input_signature=[spec], autograph=False)
        for name, (function, spec) in signatures(model, options).items()
    }
    tf.saved_model.save(module, str(folder), signatures=functions)
    extra = pathlib.Path(folder) / "assets.extra"
    extra.mkdir()
    for name, text in metadata_files(model, class_labels(model)).items():
        (extra / name).write_text(text, encoding="utf-8")


def signatures(model, options):
    """{signature: (function, TensorSpec of what it takes)}

    | signature | input | outputs |
    | --- | --- | --- |
    | serving_default | `image_bytes` string (batch,): JPEG, PNG, BMP, GIF, WebP | below |
    | serve_examples | `examples` string (batch,): tf.Example with such bytes in `image/encoded` | below |
    | serve_images | `images` uint8 (batch, height, width, channels), any size | below |
    | serve_logits | `images` float32, normalised, the model's size | `logits` (batch, classes) |
    | embed | `image_bytes` | `embedding` float32 (batch, width), what the head reads |
    | attention, if asked for | `image_bytes` | `attention` float32 (batch, rows, columns) of the grid of patches, how much each counts; a map sums to 1 |

    The first three return `probabilities` float32 (batch, classes), in the order of the classes,
    and of the k = options.top_k most probable, best first, `labels` string, `scores` float32 and
    `classes` int32, all (batch, k). What cannot be decoded fails the request, see `decode_batch`.
    """  # noqa: E501
    height, width, channels = model.input_shape[1:]
    labels = tf.constant(class_labels(model))
    compiled = options.jit_compile and is_faster_with_xla(model)
    # One function for all signatures, so that nothing is traced twice.
    network = tf.function(model, jit_compile=compiled or None)
    embed = embedder(model)

    def answer(images):
        probabilities = tf.nn.softmax(network(images))
        scores, classes = tf.math.top_k(probabilities, min(options.top_k, labels.shape[0]))
        return {
            "probabilities": probabilities,
            "classes": classes,
            "labels": tf.gather(labels, classes),
            "scores": scores,
        }

    def decode(image_bytes):
        return decode_batch(image_bytes, model.preprocessing, options.max_pixels)

    def from_examples(examples):
        feature = {"image/encoded": tf.io.FixedLenFeature((), tf.string)}
        return answer(decode(tf.io.parse_example(examples, feature)["image/encoded"]))

    image_bytes = tf.TensorSpec((None,), tf.string, "image_bytes")
    examples = tf.TensorSpec((None,), tf.string, "examples")
    any_size = tf.TensorSpec((None, None, None, channels), tf.uint8, "images")
    normalised = tf.TensorSpec((None, height, width, channels), tf.float32, "images")
    table = {
        "serving_default": (lambda image_bytes: answer(decode(image_bytes)), image_bytes),
        "serve_examples": (from_examples, examples),
        "serve_images": (lambda images: answer(model.preprocessing(images)), any_size),
        "serve_logits": (lambda images: {"logits": network(images)}, normalised),
        "embed": (lambda image_bytes: {"embedding": embed(decode(image_bytes))}, image_bytes),
    }
    if options.attention:
        table["attention"] = (
            lambda image_bytes: {"attention": attention_rollout(model, decode(image_bytes))},
            image_bytes,
        )
    return table


def decode_batch(image_bytes, preprocessing, max_pixels):
    """Decodes and preprocesses a batch of image files, in parallel.

    Args:
        image_bytes: string tensor (batch,).
        preprocessing: Preprocessing.
        max_pixels: the most an image may have; larger ones are not decoded.

    Returns:
        float32 tensor (batch, height, width, channels), normalised.

    Raises:
        tf.errors.InvalidArgumentError: naming the positions of those that cannot be decoded.
    """

    def decode(position, encoded):
        return position, preprocessing(decode_image(encoded, preprocessing.channels, max_pixels))

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
        [
            f"no JPEG, PNG, BMP, GIF or WebP that can be decoded, of at most {max_pixels} pixels, "
            "at positions",
            missing,
        ],
        summarize=-1,
    )
    with tf.control_dependencies([whole]):
        return tf.identity(images[:-1])


def is_faster_with_xla(model):
    """Whether XLA makes the model faster on this machine, one image at a time; says so."""
    image = tf.zeros((1, *model.input_shape[1:]))
    functions = {jit: tf.function(model, jit_compile=jit) for jit in (False, True)}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(1 + RUNS):
        for jit, function in functions.items():
            start = time.perf_counter()
            function(image)
            seconds[jit].append(time.perf_counter() - start)
    plain, compiled = (1000 * statistics.median(seconds[jit][1:]) for jit in (False, True))
    faster = compiled < WORTH * plain
    verdict = "the model is compiled" if faster else "it is not worth it, and left out"
    print(f"With XLA {compiled:.2f} ms an image, without {plain:.2f} ms: {verdict}.", flush=True)
    return faster
