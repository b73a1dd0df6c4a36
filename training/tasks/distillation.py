"""Recipe with a teacher + student -> Teacher, and its answers to all training images."""

import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

from training.data.pipeline import evaluation_batches
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.model import ViT, load_any
from vit_keras.tasks.distillation import Teacher
from vit_keras.utils.errors import InputError, first_line
from vit_keras.weights import from_weights
from vit_keras.weights.fetch import in_run_folder

BATCH_SIZE = 64


def load_teacher(recipe, student):
    """The teacher that a recipe names, for a student.

    A ViT, from wherever `from_weights` takes it, says itself how images are prepared for it and
    what its classes are called; so does a SavedModel that `python -m export` wrote. To any other
    .keras file or SavedModel images are given as teacher_mean and teacher_std say, and its classes
    are taken to be in the student's order. It may give logits or probabilities.

    Args:
        recipe: Recipe.
        student: ViT.

    Returns:
        Teacher.

    Raises:
        InputError: for what is no such model, and for one that does not fit the student.
    """
    path = in_run_folder(pathlib.Path(recipe.teacher))
    names: tuple[str, ...] = ()
    preprocessing = None
    if found := list(path.glob("*/saved_model.pb")):
        raise InputError(f"the teacher {path} has versions; name one, such as {found[0].parent}.")
    if (path / "saved_model.pb").is_file():
        model = _saved_model(path)
        extra = path / "assets.extra"
        if (extra / "preprocessing.json").is_file():
            preprocessing = Preprocessing(**json.loads((extra / "preprocessing.json").read_text()))
            names = tuple((extra / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1])
    elif path.suffix == ".keras" and "://" not in recipe.teacher:
        model = load_any(path)
    else:
        model = from_weights(recipe.teacher)
    if isinstance(model, ViT):
        if not model.config.num_classes:
            raise InputError(f"the teacher {recipe.teacher} has no classes.")
        return Teacher(model, student)
    # Subclassed models do not tell.
    shape = getattr(model, "input_shape", (None, None, None, student.config.channels))
    if not (isinstance(shape, tuple) and len(shape) == 4):
        raise InputError(f"the teacher {path} takes no batch of images. Its input: {shape}.")
    preprocessing = preprocessing or _stated(recipe, student, shape)
    shares = _answer_to_noise(model, preprocessing, path)
    classes = len(names) or student.config.num_classes
    if shares.shape[1] != classes:
        raise InputError(
            f"the teacher {path} tells {shares.shape[1]} classes apart, the student {classes}."
        )
    # No logits are shares of one by chance; half precision rounds.
    probabilities = np.all(shares >= 0) and np.allclose(shares.sum(axis=1), 1, atol=2e-2)
    return Teacher(model, student, preprocessing, names, bool(probabilities))


def answers(teacher, student, examples):
    """What a teacher says about each image without augmentation -> probabilities, float32

    Returns:
        (count, classes)
    """
    batches = evaluation_batches(examples, student.preprocessing, BATCH_SIZE)
    asked = keras.Model(student.input, teacher(student.input))
    logits = asked.predict(batches.map(lambda images, labels: images), verbose=0)
    return np.asarray(keras.ops.softmax(logits))


def _saved_model(path):
    """A SavedModel's signature from images to logits, or else its default one, as a Keras model"""
    try:
        signatures = tf.saved_model.load(path).signatures
    except Exception as error:  # a broken file can fail in any of its layers
        raise InputError(f"{path} cannot be loaded as a SavedModel: {first_line(error)}") from error
    name = "serve_logits" if "serve_logits" in signatures else "serving_default"
    if name not in signatures:
        raise InputError(f"the teacher {path} has no signature serving_default.")
    inputs = list(signatures[name].structured_input_signature[1].values())
    outputs = signatures[name].structured_outputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs) != 1:
        raise InputError(
            f"the teacher {path} must take one batch of images and give one output for each. Its "
            f"{name} takes {', '.join(map(str, inputs))} and gives {', '.join(outputs)}."
        )
    images = keras.Input(inputs[0].shape[1:], dtype=inputs[0].dtype.name)
    answer = keras.layers.TFSMLayer(path, call_endpoint=name)(images)
    return keras.Model(images, next(iter(answer.values())))


def _stated(recipe, student, shape):
    """The Preprocessing of a model that does not say it"""
    seen, channels = student.preprocessing, shape[-1]

    def numbers(stated, own):
        values = stated or own
        return values * channels if len(values) == 1 else values

    return Preprocessing(
        tuple(side or own for side, own in zip(shape[1:3], seen.image_size, strict=True)),
        mean=numbers(recipe.teacher_mean, seen.mean),
        std=numbers(recipe.teacher_std, seen.std),
    )


def _answer_to_noise(model, preprocessing, path):
    """(4, classes), what a model says about random pixels"""
    size = (4, *preprocessing.image_size, preprocessing.channels)
    pixels = np.random.default_rng(0).integers(0, 256, size).astype("float32")
    images = preprocessing.normalise(pixels)
    try:
        answer = model.predict_on_batch(np.asarray(images))
    except Exception as error:  # of whatever layers it is made of
        raise InputError(
            f"the teacher {path} cannot see images of {size[1:]}: {first_line(error)}"
        ) from error
    if not (isinstance(answer, np.ndarray) and answer.ndim == 2):
        raise InputError(f"the teacher {path} must give one row of logits for each image.")
    return answer.astype("float32")
