"""Model -> the signatures of its SavedModel: what they take and return, and their functions."""

from collections.abc import Callable

import keras
import tensorflow as tf

from export.endpoints import endpoints_of
from export.endpoints.endpoints import shape_text
from export.options import Options
from vit_keras.images.decoding import decode_image
from vit_keras.images.preprocessing import Preprocessing

# The signature's name, its input, its outputs, as README.md next to a SavedModel lists them. Names
# in braces are filled in for the model; {answer} is `Endpoints.served_description`. One more row
# for each of the extra outputs of `Endpoints` follows.
TABLE = (
    (
        "serving_default",
        "`image_bytes`, strings (batch): JPEG, PNG, BMP, GIF or WebP files",
        "{answer}",
    ),
    (
        "serve_examples",
        "`examples`, strings (batch): tf.Example with such a file in `image/encoded`",
        "the same",
    ),
    (
        "serve_images",
        "`images`, uint8 (batch, height, width, {channels}) of any size",
        "the same",
    ),
    (
        "serve_{raw}",
        "`images`, float32 (batch, {height}, {width}, {channels}), prepared as "
        "`assets.extra/preprocessing.json` specifies",
        "`{raw}` ({shape})",
    ),
)

Function = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def signature_table(model: keras.Model, options: Options) -> str:
    """The signatures of a model's SavedModel as rows of a Markdown table: name, input, outputs."""
    endpoints = endpoints_of(model)
    height, width, channels = model.input_shape[1:]
    values = {
        "answer": endpoints.served_description(model, options),
        "raw": endpoints.raw,
        "shape": shape_text(model.output_shape[1:]),
        "height": height,
        "width": width,
        "channels": channels,
    }
    rows = [[cell.format_map(values) for cell in row] for row in TABLE]
    for extra in endpoints.saved_model_extras(model, options) + endpoints.extras(model, options):
        outputs = f"`{extra.output}` ({shape_text(extra.shape)}), {extra.description}"
        rows.append([extra.signature, "`image_bytes`", outputs])
    return "\n".join(f"| `{name}` | {takes} | {returns} |" for name, takes, returns in rows)


def signatures(
    model: keras.Model, options: Options, network: Callable[[tf.Tensor], tf.Tensor]
) -> dict[str, tuple[Function, tf.TensorSpec]]:
    """The functions of the signatures in TABLE and those of the extra outputs.

    Images that cannot be decoded fail the request, see `decode_batch`.

    Args:
        model: the model as exported.
        options: Options; top_k, max_pixels and attention are used.
        network: computes the model's output.

    Returns:
        {signature: (its function, TensorSpec of its input)}.
    """
    endpoints, preprocessing = endpoints_of(model), model.preprocessing
    serve = endpoints.server(model, options)
    *_, channels = model.input_shape

    def answer(images):
        return serve(endpoints.activate(network(images)))

    def decode(image_bytes):
        return decode_batch(image_bytes, preprocessing, options.max_pixels)

    def from_examples(examples):
        feature = {"image/encoded": tf.io.FixedLenFeature((), tf.string)}
        return answer(decode(tf.io.parse_example(examples, feature)["image/encoded"]))

    def extra_signature(output, function):
        return lambda image_bytes: {output: function(decode(image_bytes))}

    image_bytes = tf.TensorSpec((None,), tf.string, "image_bytes")
    examples = tf.TensorSpec((None,), tf.string, "examples")
    any_size = tf.TensorSpec((None, None, None, channels), tf.uint8, "images")
    normalised = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, "images")
    extras = endpoints.saved_model_extras(model, options) + endpoints.extras(model, options)
    return {
        "serving_default": (lambda image_bytes: answer(decode(image_bytes)), image_bytes),
        "serve_examples": (from_examples, examples),
        "serve_images": (lambda images: answer(preprocessing(images)), any_size),
        f"serve_{endpoints.raw}": (lambda images: {endpoints.raw: network(images)}, normalised),
        **{
            extra.signature: (extra_signature(extra.output, extra.build()), image_bytes)
            for extra in extras
        },
    }


def decode_batch(
    image_bytes: tf.Tensor, preprocessing: Preprocessing, max_pixels: int
) -> tf.Tensor:
    """Decodes and preprocesses a batch of image files, in parallel.

    Args:
        image_bytes: string tensor (batch,).
        preprocessing: Preprocessing.
        max_pixels: the size of the largest image to decode, pixels.

    Returns:
        float32 tensor (batch, height, width, channels), normalised.

    Raises:
        tf.errors.InvalidArgumentError: with the positions of those that cannot be decoded.
    """

    def decode(position, encoded):
        return position, preprocessing(decode_image(encoded, preprocessing.channels, max_pixels))

    # Undecodable images are dropped on the way; the missing positions are those that failed.
    # A blank image at the end keeps the batch from being empty.
    count = tf.size(image_bytes, tf.int64)
    dataset = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    dataset = dataset.map(decode, tf.data.AUTOTUNE).ignore_errors()
    image_size: tuple[int, int] = preprocessing.image_size  # type: ignore[assignment]
    blank = tf.zeros((*image_size, preprocessing.channels))
    dataset = dataset.concatenate(tf.data.Dataset.from_tensors((count, blank)))
    decoded, images = dataset.batch(count + 1).get_single_element()
    missing = tf.sets.difference([tf.range(count)], [decoded[:-1]]).values
    complete = tf.debugging.Assert(
        tf.size(missing) == 0,
        [
            f"no JPEG, PNG, BMP, GIF or WebP that can be decoded, of at most {max_pixels} pixels, "
            "at positions",
            missing,
        ],
        summarize=-1,
    )
    with tf.control_dependencies([complete]):
        return tf.identity(images[:-1])
