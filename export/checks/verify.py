"""Artefact + images -> how far its answers are from Keras's, and what that costs in accuracy."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from export.endpoints import embedder
from export.images import Images
from vit_keras.explain import attention_rollout
from vit_keras.utils.errors import InputError
from vit_keras.utils.statistics import change_of_accuracy

BATCH_SIZE = 32
OF_CLASSES = ("files", "pixels", "logits")  # the answers that name one


class RefusedError(InputError):
    """An artefact is not what it should be, or cannot be made here, and was not published."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images to judge an artefact by, and the Keras model's answers.

    Attributes:
        files: the bytes of some image files of any size.
        pixels: uint8 (count, height, width, channels), images at the model's size; the first are
            those of the files.
        labels: int64 (count,); where nobody knew them, the Keras model's own answers.
        expected: the answers, float32 (count, classes): "files", probabilities for `files`;
            "pixels", probabilities for `pixels`; "logits", for `pixels`, normalised. Also
            "embeddings of files", (count, width), and, where they were asked for, "attention of
            files" and "attention of pixels", (count, rows, columns).
        source: where the images are from, in words.
    """

    files: list[bytes]
    pixels: np.ndarray
    labels: np.ndarray
    expected: dict[str, np.ndarray]
    source: str

    def right(self, answers):
        """bool (count,), whether the most probable class is the right one"""
        return answers.argmax(axis=1) == self.labels


@dataclasses.dataclass(frozen=True)
class Run:
    """What an artefact did in its own runtime.

    Attributes:
        answers: [(key of Samples.expected, what it says), ...], "pixels" or "logits" among them.
        milliseconds: {threads: for one image}.
        memory: MB that the process grew by, at most, while it loaded the artefact and ran an image.
    """

    answers: list[tuple[str, np.ndarray]]
    milliseconds: dict[int, float]
    memory: float


def ask_keras(model, images: Images, attention=False) -> Samples:
    """The Keras model's answers to images."""
    preprocessing = model.preprocessing
    decoded = [tf.io.decode_png(file, preprocessing.channels) for file in images.files]
    sized = np.stack([preprocessing.to_size(image) for image in decoded])

    def ask(network, pixels):
        batches = tf.data.Dataset.from_tensor_slices(pixels).batch(BATCH_SIZE)
        answers = [network(preprocessing.normalise(batch)) for batch in batches]
        return np.concatenate([np.asarray(answer) for answer in answers])

    network, embed = (tf.function(each) for each in (model, embedder(model)))
    answers, from_files = ask(network, images.pixels), ask(network, sized)
    expected = {
        "files": _softmax(from_files),
        "pixels": _softmax(answers),
        "logits": answers,
        "embeddings of files": ask(embed, sized),
    }
    if attention:
        rollout = tf.function(lambda images: attention_rollout(model, images))
        expected["attention of files"] = ask(rollout, sized)
        expected["attention of pixels"] = ask(rollout, images.pixels)
    labels = answers.argmax(axis=1) if images.labels is None else images.labels
    return Samples(images.files, images.pixels, labels, expected, images.source)


def compare(answers, samples):
    """Differences between an artefact's answers and Keras's.

    Args:
        answers: [(key of samples.expected, array), ...].
        samples: Samples.

    Returns:
        (the largest absolute difference, of logits and embeddings in units of the largest if
        that is above 1; the fraction of images with the same most probable class).
    """
    differences, agreements = [], []
    for key, got in answers:
        expected = samples.expected[key]
        unit = max(1.0, np.abs(expected).max())
        differences.append(np.abs(got - expected).max() / unit)
        if key in OF_CLASSES:
            agreements.append((got.argmax(axis=1) == expected.argmax(axis=1)).mean())
    return float(np.max(differences)), float(np.min(agreements))


def judge(run, samples, tolerance=None):
    """What an artefact did against what the Keras model does.

    Args:
        run: Run.
        samples: Samples.
        tolerance: see `Format`; None where it may differ.

    Returns:
        JSON-ready {"images", "source", "max_difference", "tolerance", "top1_agreement",
        "keras_accuracy", "accuracy", "change", "interval" (of the change, 95 %), "milliseconds",
        "memory_mb"}; fractions of 1.
    """
    difference, agreement = compare(run.answers, samples)
    answers = next(got for key, got in run.answers if key in ("pixels", "logits"))
    before, after = samples.right(samples.expected["logits"]), samples.right(answers)
    change, *interval = change_of_accuracy(before, after)
    return {
        "images": len(samples.labels),
        "source": samples.source,
        "max_difference": difference,
        "tolerance": tolerance,
        "top1_agreement": agreement,
        "keras_accuracy": float(before.mean()),
        "accuracy": float(after.mean()),
        "change": change,
        "interval": interval,
        "milliseconds": run.milliseconds,
        "memory_mb": run.memory,
    }


def check(judged, name, options):
    """Raises RefusedError for an artefact that differs from Keras by more than it may."""
    difference, tolerance = judged["max_difference"], judged["tolerance"]
    if tolerance and not difference <= tolerance:  # not: NaN passes no comparison
        raise RefusedError(
            f"{name} answers differently from Keras: its probabilities differ by up to "
            f"{difference:.1e}, tolerance {tolerance:.0e}."
        )
    if not options.allow_drop and -judged["change"] > options.max_drop + 1e-9:
        raise RefusedError(
            f"{name} has {judged['accuracy']:.1%} of {judged['images']} images right, Keras "
            f"{judged['keras_accuracy']:.1%}: more than max_drop={options.max_drop} is lost; "
            f"--allow-drop publishes it all the same."
        )


def _softmax(logits):
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))
