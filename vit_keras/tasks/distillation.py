"""Student and teacher -> the model that `fit` is called on: distillation as in DeiT.

arXiv:2012.12877, section 4: the [CLS] token's head learns the labels, the distillation token's
what the teacher says. A student without that token learns both with its one head.
"""

import keras
import numpy as np
from keras import ops

from vit_keras.images.preprocessing import Preprocessing
from vit_keras.layers.positions import resize_matrix
from vit_keras.model import HEADS, ViT
from vit_keras.tasks.losses import AsGiven
from vit_keras.utils.checks import as_image_size, check_choice
from vit_keras.utils.errors import InputError, did_you_mean


def hard_loss(logits, taught, temperature=1.0):
    """Cross-entropy with the class the teacher decided for (equation 3).

    Args:
        logits, taught: (batch, classes), the student's and the teacher's.
        temperature: plays no part.

    Returns:
        (batch,)
    """
    decided = ops.argmax(taught, axis=-1)
    return keras.losses.sparse_categorical_crossentropy(decided, logits, from_logits=True)


def soft_loss(logits, taught, temperature=1.0):
    """KL divergence from the teacher's probabilities to the student's (equation 2).

    Args:
        logits, taught: (batch, classes), the student's and the teacher's.
        temperature: both are divided by it, and the result multiplied by its square. The paper's
            is 3; the authors' code divides by the number of classes as well, this does not.

    Returns:
        (batch,)
    """
    student = ops.log_softmax(logits / temperature, axis=-1)
    teacher = ops.log_softmax(taught / temperature, axis=-1)
    return temperature**2 * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


DISTILLATIONS = {"hard": hard_loss, "soft": soft_loss}


_RESIZES = {"bilinear": "linear_antialias", "bicubic": "bicubic_antialias"}


class Teacher(keras.layers.Layer):
    """What a model says about images that were prepared for a student.

    (batch, height, width, channels), normalised as the student's -> (batch, classes), logits in the
    order of the student's classes. In between, the images are stretched to the model's own size and
    normalised as it expects them. The model is made untrainable.

    Args:
        model: a ViT, any other Keras model, or a layer; images to logits.
        student: ViT.
        preprocessing: Preprocessing of a model that is no ViT; the student's by default. Its
            cropping plays no part: the teacher sees what the student sees.
        class_names: in the order of the model's logits; those of a ViT, or none.
        probabilities: whether that is what the model gives, in place of logits.

    Raises:
        InputError: where the model cannot see the student's images, or does not know its classes.
    """

    def __init__(
        self, model, student, preprocessing=None, class_names=(), probabilities=False, **kwargs
    ):
        super().__init__(**kwargs)
        if isinstance(model, ViT):
            preprocessing, class_names = model.preprocessing, model.class_names
        preprocessing = preprocessing or student.preprocessing
        self.model = model
        dtypes = [image.dtype for image in getattr(model, "inputs", None) or []]
        self.whole_numbers = any(not keras.backend.is_float_dtype(dtype) for dtype in dtypes)
        self.probabilities = probabilities
        self.seen = student.preprocessing
        self.preprocessing: Preprocessing = preprocessing
        if preprocessing.channels not in (self.seen.channels, 3):
            raise InputError(
                f"the teacher sees {preprocessing.channels} channels, and the student's images "
                f"have {self.seen.channels}."
            )
        self.order = None
        if class_names and student.class_names:
            for name in student.class_names:
                if name not in class_names:
                    raise InputError(
                        f"the teacher knows no class {name!r}{did_you_mean(name, class_names)}"
                    )
            self.order = [class_names.index(name) for name in student.class_names]
        self.trainable = False

    def call(self, images):
        pixels = 255 * (images * np.float32(self.seen.std) + np.float32(self.seen.mean))
        if self.preprocessing.channels != self.seen.channels:
            pixels = ops.repeat(pixels, self.preprocessing.channels, axis=-1)
        images = self.preprocessing.normalise(self._stretch(pixels))
        if self.whole_numbers:
            images = ops.round(images)
        logits = ops.cast(self.model(images, training=False), "float32")
        if self.probabilities:
            logits = ops.log(ops.maximum(logits, 1e-30))
        if self.order is not None:
            logits = ops.take(logits, self.order, axis=-1)
        return ops.stop_gradient(logits)

    def _stretch(self, images):
        """To the model's size, antialiased, by matrices: XLA has no such resizing for TensorFlow"""
        old, new = tuple(images.shape[1:3]), self.preprocessing.image_size
        if old == new:
            return images
        how = _RESIZES[self.preprocessing.interpolation]
        down, across = (
            resize_matrix(*sides, how).astype("float32")
            for sides in zip(old, as_image_size(new), strict=True)
        )
        return ops.einsum("ry,byxk,cx->brck", down, images, across)


class Distiller(keras.Model):
    """A student with its teacher, to be compiled with the loss for labels, and fitted.

    The student itself is what is saved afterwards; its weights are the ones that are trained. When
    it is evaluated, the teacher is not asked, and the logits are the mean of both heads.

    Args:
        student: ViT, best one with `distilled`.
        teacher: Teacher, or a model that one is made of; or None, where the targets are
            (batch, 2 * classes), the second half probabilities that a teacher has given before.
        kind: a key of DISTILLATIONS.
        share: of the teacher's loss in the whole; the paper's is 0.5 for "hard", 0.1 for "soft".
        temperature: of "soft".

    Raises:
        InputError: for an unknown kind, and a teacher with another number of classes.
    """

    def __init__(self, student, teacher=None, kind="hard", share=0.5, temperature=3.0):
        check_choice("distillation", kind, DISTILLATIONS)
        super().__init__(name=student.name)
        names = HEADS if student.config.distilled else (HEADS[0], HEADS[0])
        heads = [student.get_layer(name).output for name in names]
        self.heads = keras.Model(student.input, heads)
        if teacher and not isinstance(teacher, Teacher):
            teacher = Teacher(teacher, student)
        self.teacher = teacher
        self.kind = kind
        self.share = share
        self.temperature = temperature
        if teacher:
            known, classes = teacher(student.input).shape[-1], student.config.num_classes
            if known != classes:
                raise InputError(f"the teacher tells {known} classes apart, the student {classes}.")
        self.build(student.input_shape)

    def call(self, images, training=None):
        """Both heads' logits, as (2, batch, classes)"""
        return ops.stack(self.heads(images, training=training))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The student's own loss, and in training the teacher's share"""
        if not training:
            logits = ops.mean(y_pred, axis=0)
            return super().compute_loss(x, _labels(y, logits), logits, sample_weight, training)
        logits, distilled = y_pred[0], y_pred[1]
        if self.teacher:
            taught = self.teacher(x)
        else:
            y, probabilities = ops.split(y, 2, axis=-1)
            taught = ops.log(ops.maximum(probabilities, 1e-30))
        own = super().compute_loss(x, y, logits, sample_weight, training)
        losses = DISTILLATIONS[self.kind](distilled, taught, self.temperature)
        theirs = AsGiven()(losses, losses, sample_weight)
        return (1 - self.share) * own + self.share * theirs

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Metrics of the mean of both heads"""
        logits = ops.mean(y_pred, axis=0)
        return super().compute_metrics(x, _labels(y, logits), logits, sample_weight)


def _labels(y, logits):
    """The targets without a teacher's answers, if they have any; class numbers have none"""
    return y if len(y.shape) < 2 else y[..., : logits.shape[-1]]
