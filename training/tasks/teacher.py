"""A teacher's source + student -> Teacher."""

import json
import pathlib
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from vit_keras import Preprocessing, Teacher, ViT
from vit_keras.model import load_any
from vit_keras.utils.errors import InputError, first_line
from vit_keras.weights import from_weights
from vit_keras.weights.fetch import in_run_folder

if TYPE_CHECKING:
    from training.tasks.distillation import DistillationOptions


def load_teacher(options: "DistillationOptions", student: ViT) -> Teacher:
    """Loads the teacher of a recipe for a student.

    A ViT, from any source of `from_weights`, carries its preprocessing and its class names; so does
    a SavedModel that `python -m export` wrote. Any other .keras file or SavedModel gets images that
    are normalised by teacher_mean and teacher_std, and its classes are assumed to be in the
    student's order. Its output may be logits or probabilities.

    Args:
        options: DistillationOptions.
        student: ViT.

    Raises:
        InputError: for a source that is not such a model, or does not fit the student.
    """
    path = in_run_folder(pathlib.Path(options.teacher))
    if versions := list(path.glob("*/saved_model.pb")):
        raise InputError(
            f"the teacher {path} has versions; name one, such as {versions[0].parent}."
        )
    if (path / "saved_model.pb").is_file():
        return _foreign_teacher(_load_saved_model(path), path, options, student)
    if path.suffix == ".keras" and "://" not in options.teacher:
        model = load_any(path)
    else:
        model = from_weights(options.teacher)
    if not isinstance(model, ViT):
        return _foreign_teacher(model, path, options, student)
    if not model.config.num_classes:
        raise InputError(f"the teacher {options.teacher} has no classes.")
    return Teacher(model, student)


def _foreign_teacher(model, path, options, student):
    """A Teacher of a model that is not a ViT of this project."""
    # Subclassed models have no input_shape.
    shape = getattr(model, "input_shape", (None, None, None, student.config.channels))
    if not (isinstance(shape, tuple) and len(shape) == 4):
        raise InputError(
            f"the input of the teacher {path} is not a batch of images. Its shape: {shape}."
        )
    preprocessing, class_names = _metadata(path)
    preprocessing = preprocessing or _assumed_preprocessing(options, student, shape)
    answer = _answer_to_noise(model, preprocessing, path)
    classes = len(class_names) or student.config.num_classes
    if answer.shape[1] != classes:
        raise InputError(
            f"the teacher {path} has {answer.shape[1]} classes, the student {classes}."
        )
    # Rows that are >= 0 and sum to 1 are probabilities; 2e-2 allows for float16.
    probabilities = np.all(answer >= 0) and np.allclose(answer.sum(axis=1), 1, atol=2e-2)
    return Teacher(model, student, preprocessing, class_names, bool(probabilities))


def _load_saved_model(path):
    """A SavedModel's signature from images to logits, or else its default one, as a Keras model."""
    try:
        signatures = tf.saved_model.load(path).signatures
    except Exception as error:  # a broken file can fail anywhere in TensorFlow
        raise InputError(f"{path} cannot be loaded as a SavedModel: {first_line(error)}") from error
    name = "serve_logits" if "serve_logits" in signatures else "serving_default"
    if name not in signatures:
        raise InputError(f"the teacher {path} has no signature serving_default.")
    inputs = list(signatures[name].structured_input_signature[1].values())
    outputs = signatures[name].structured_outputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs) != 1:
        raise InputError(
            f"the teacher {path} must have one batch of images as input and one output. The "
            f"inputs of {name} are {', '.join(map(str, inputs))}, its outputs {', '.join(outputs)}."
        )
    images = keras.Input(inputs[0].shape[1:], dtype=inputs[0].dtype.name)
    answer = keras.layers.TFSMLayer(path, call_endpoint=name)(images)
    return keras.Model(images, next(iter(answer.values())))


def _metadata(path):
    """Preprocessing and class names of a SavedModel that this project exported, or (None, ())."""
    extra = path / "assets.extra"
    if not (extra / "preprocessing.json").is_file():
        return None, ()
    preprocessing = Preprocessing(**json.loads((extra / "preprocessing.json").read_text()))
    labels = (extra / "labels.txt").read_text(encoding="utf-8")
    return preprocessing, tuple(labels.split("\n")[:-1])


def _assumed_preprocessing(options, student, shape):
    """The Preprocessing of a model that does not carry one."""
    own, channels = student.preprocessing, shape[-1]

    def per_channel(values, default):
        values = values or default
        return values * channels if len(values) == 1 else values

    return Preprocessing(
        tuple(side or own for side, own in zip(shape[1:3], own.image_size, strict=True)),
        mean=per_channel(options.teacher_mean, own.mean),
        std=per_channel(options.teacher_std, own.std),
    )


def _answer_to_noise(model: Any, preprocessing: Preprocessing, path: pathlib.Path) -> np.ndarray:
    """The model's output for four images of random pixels, (4, classes)."""
    size = (4, *preprocessing.image_size, preprocessing.channels)
    pixels = np.random.default_rng(0).integers(0, 256, size).astype("float32")
    images = preprocessing.normalise(pixels)
    try:
        answer = model.predict_on_batch(np.asarray(images))
    except Exception as error:  # from any of the model's layers
        raise InputError(
            f"the teacher {path} cannot process images of {size[1:]}: {first_line(error)}"
        ) from error
    if not (isinstance(answer, np.ndarray) and answer.ndim == 2):
        raise InputError(f"the output of the teacher {path} must be one row of logits an image.")
    return answer.astype("float32")
