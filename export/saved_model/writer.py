"""Model -> SavedModel for TF Serving: image bytes in, labels and probabilities out."""

import pathlib
import statistics
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from export.labels import metadata_files
from export.options import Options
from export.saved_model.signatures import signatures

RUNS = 20  # with and without XLA, to find the faster way
WORTHWHILE = 0.95  # the time with XLA must be below this fraction of the time without


def write_saved_model(model: keras.Model, folder: pathlib.Path, options: Options) -> None:
    """Writes a SavedModel with the signatures of `export.saved_model.signatures`.

    The folder assets.extra holds labels.txt, one class per line, and preprocessing.json, which
    specifies how to prepare images for serve_logits.

    Args:
        model: the model as exported.
        folder: path that does not exist.
        options: Options; top_k, max_pixels, jit_compile and attention are used.
    """
    module = tf.Module()
    # Keras's ExportArchive would write every weight twice.
    module.weights = [weight.value for weight in model.weights]
    functions = {
        name: tf.function(function, input_signature=[spec], autograph=False)
        for name, (function, spec) in signatures(
            model, options, traced_once(model, options)
        ).items()
    }
    tf.saved_model.save(module, str(folder), signatures=functions)
    extra = pathlib.Path(folder) / "assets.extra"
    extra.mkdir()
    for name, text in metadata_files(model).items():
        (extra / name).write_text(text, encoding="utf-8")


def traced_once(model: keras.Model, options: Options) -> Callable[[tf.Tensor], tf.Tensor]:
    """The model as one function for all signatures, so that it is not traced for each.

    XLA compiles it if the options ask for it and it is faster here.
    """
    compiled = options.jit_compile and is_faster_with_xla(model)
    return tf.function(model, jit_compile=compiled or None)


def is_faster_with_xla(model: keras.Model) -> bool:
    """Measures whether XLA makes the model faster on this machine, for one image; prints it."""
    image = tf.zeros((1, *model.input_shape[1:]))
    functions = {jit: tf.function(model, jit_compile=jit) for jit in (False, True)}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(1 + RUNS):
        for jit, function in functions.items():
            start = time.perf_counter()
            function(image)
            seconds[jit].append(time.perf_counter() - start)
    plain, compiled = (1000 * statistics.median(seconds[jit][1:]) for jit in (False, True))
    faster = compiled < WORTHWHILE * plain
    verdict = "the model is compiled" if faster else "the model is not compiled"
    print(f"With XLA {compiled:.2f} ms an image, without {plain:.2f} ms: {verdict}.", flush=True)
    return faster
