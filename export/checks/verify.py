"""Artefact + images -> how far its answers are from Keras's, and what that costs in accuracy."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.endpoints import endpoints_of
from export.endpoints.endpoints import Endpoints, largest_difference
from export.images import Images
from export.options import Options
from vit_keras.utils.errors import InputError

BATCH_SIZE = 32

# What `judge` returns, of an artefact whose runtime is not there.
NOT_RUN: dict[str, Any] = {
    "images": 0,
    "source": "",
    "max_difference": None,
    "tolerance": None,
    "milliseconds": {},
    "cold_start_ms": None,
    "memory_mb": None,
}


# Fields of formats that are not asked which accelerators take them.
NO_DEVICES: dict[str, Any] = {"integer": None, "gpu": None, "half_range": None}


class RefusedError(InputError):
    """An artefact is not good enough, or cannot be written here, and was not published."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images to judge an artefact by, and the Keras model's answers.

    Attributes:
        files: the bytes of some image files of any size.
        pixels: uint8 (count, height, width, channels), images at the model's size.
        labels: int64 (count,) of the pixels, or None where they are unknown.
        expected: {"OUTPUT of files" or "OUTPUT of pixels": float32 (count, ...)}, the answers, such
            as "probabilities of files" and "logits of pixels".
        source: how many images there are and where they are from, in words.
    """

    files: list[bytes]
    pixels: np.ndarray
    labels: np.ndarray | None
    expected: dict[str, np.ndarray]
    source: str


@dataclasses.dataclass(frozen=True)
class Run:
    """What an artefact did in its own runtime.

    Attributes:
        answers: [(key of Samples.expected, array), ...]; a SavedModel has one for each signature.
        milliseconds: {threads: median time of one image}.
        cold_start: milliseconds to load the artefact and run the first image, with one thread.
        memory: MB that the process grew by, at most, while it loaded the artefact and ran an image.
    """

    answers: list[tuple[str, np.ndarray]]
    milliseconds: dict[int, float]
    cold_start: float
    memory: float


def ask_keras(model: keras.Model, images: Images, options: Options) -> Samples:
    """Asks the Keras model for its answers to images.

    Args:
        model: the trained model.
        images: Images.
        options: Options; attention and embed are used.

    Returns:
        Samples with every output that an artefact may have.
    """
    endpoints, preprocessing = endpoints_of(model), model.preprocessing
    decoded = [tf.io.decode_png(file, preprocessing.channels) for file in images.files]
    sized = np.stack([preprocessing.to_size(image) for image in decoded])

    def ask(network: Callable[[tf.Tensor], tf.Tensor], pixels: np.ndarray) -> np.ndarray:
        batches = tf.data.Dataset.from_tensor_slices(pixels).batch(BATCH_SIZE)
        answers = [network(preprocessing.normalise(batch)) for batch in batches]
        return np.concatenate([np.asarray(answer) for answer in answers])

    network = tf.function(model)
    of_pixels, of_files = ask(network, images.pixels), ask(network, sized)
    expected = {
        f"{endpoints.output} of files": np.asarray(endpoints.activate(of_files)),
        f"{endpoints.output} of pixels": np.asarray(endpoints.activate(of_pixels)),
        f"{endpoints.raw} of pixels": of_pixels,
    }
    for extra in endpoints.saved_model_extras(model, options):
        function = tf.function(extra.build())
        expected[f"{extra.output} of files"] = ask(function, sized)
        if options.embed:
            expected[f"{extra.output} of pixels"] = ask(function, images.pixels)
    for extra in endpoints.extras(model, options):
        function = tf.function(extra.build())
        expected[f"{extra.output} of files"] = ask(function, sized)
        expected[f"{extra.output} of pixels"] = ask(function, images.pixels)
    return Samples(images.files, images.pixels, images.labels, expected, images.source)


def judge(
    run: Run,
    samples: Samples,
    endpoints: Endpoints,
    tolerance: float | None = None,
    mean_tolerance: float | None = None,
) -> dict[str, Any]:
    """Compares what an artefact did with what the Keras model does.

    Args:
        run: Run.
        samples: Samples.
        endpoints: of the model's task.
        tolerance: the largest difference that passes, see `Kind`; None for any.
        mean_tolerance: the largest distance that passes, likewise.

    Returns:
        JSON-ready {"images", "source", "max_difference", "tolerance", "distance", "mean_tolerance",
        "milliseconds", "cold_start_ms", "memory_mb"} and the fields of the task; for classification
        "top1_agreement", "keras_accuracy", "accuracy", "change" and "interval" (of the change,
        95 %), fractions of 1.
    """
    return {
        "images": len(samples.pixels),
        "source": samples.source,
        "max_difference": largest_difference(run.answers, samples.expected),
        "tolerance": tolerance,
        "distance": _distance(run, samples, endpoints),
        "mean_tolerance": mean_tolerance,
        **endpoints.judge(run.answers, samples.expected, samples.labels),
        "milliseconds": run.milliseconds,
        "cold_start_ms": run.cold_start,
        "memory_mb": run.memory,
    }


def _distance(run, samples, endpoints):
    """The mean distance of an artefact's answers to pixels, or to files."""
    return max(
        endpoints.distance(array, samples.expected[name])
        for name, array in run.answers
        if name.startswith(f"{endpoints.output} of ")
    )


def check(row: dict[str, Any], name: str, endpoints: Endpoints, options: Options) -> None:
    """Refuses an artefact that differs from Keras by more than it may.

    Args:
        row: what `judge` returned.
        name: of the artefact, for the message.
        endpoints: of the model's task.
        options: Options; max_drop and allow_drop are used.

    Raises:
        RefusedError: with the reason.
    """
    measured = (
        ("largest difference", row["max_difference"], row["tolerance"]),
        ("mean distance", row["distance"], row["mean_tolerance"]),
    )
    for what, difference, tolerance in measured:
        if tolerance and not difference <= tolerance:  # "not": NaN passes no comparison
            raise RefusedError(
                f"{name} answers differently from Keras: the {what} is {difference:.1e}, "
                f"tolerance {tolerance:.0e}."
            )
    loss = endpoints.loss(row, options)
    if loss and not options.allow_drop:
        raise RefusedError(
            f"{name} {loss}: more than max_drop={options.max_drop} is lost; "
            f"--allow-drop publishes it anyway."
        )


def check_gpu(gpu: dict[str, Any] | None, name: str, tolerance: float) -> None:
    """Refuses an artefact that a GPU takes and computes wrongly.

    Args:
        gpu: GpuRun as a dict, or None where there is no GPU engine.
        name: of the artefact, for the message.
        tolerance: the largest difference from the CPU's answers that passes.

    Raises:
        RefusedError: with the difference.
    """
    if gpu is None or gpu["max_difference"] is None:
        return
    difference = gpu["max_difference"]
    if not difference <= tolerance:  # "not": NaN passes no comparison
        raise RefusedError(
            f"{name} answers differently on LiteRT's GPU engine ({gpu['device']}) and on the CPU: "
            f"the largest difference is {difference:.1e}, tolerance {tolerance:.0e}."
        )
