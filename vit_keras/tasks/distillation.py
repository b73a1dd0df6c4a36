"""Student and teacher -> the model that `fit` is called on: distillation as in DeiT.

arXiv:2012.12877, section 4: the [CLS] token's head learns the labels, the distillation token's
head the teacher's output. A student without that token learns both with its only head.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from vit_keras.images.preprocessing import Preprocessing
from vit_keras.layers.positions import resize_matrix
from vit_keras.model import HEADS, ViT
from vit_keras.tasks.losses import PerExampleLoss
from vit_keras.utils.checks import check_choice
from vit_keras.utils.errors import InputError, did_you_mean
from vit_keras.utils.types import Tensor


def hard_loss(logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Computes the cross-entropy with the class that the teacher predicts (equation 3).

    Args:
        logits: (batch, classes), the student's.
        teacher_logits: (batch, classes).
        temperature: unused.

    Returns:
        (batch,).
    """
    predicted = ops.argmax(teacher_logits, axis=-1)
    return keras.losses.sparse_categorical_crossentropy(predicted, logits, from_logits=True)


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Computes the KL divergence from the teacher's to the student's probabilities (equation 2).

    Args:
        logits: (batch, classes), the student's.
        teacher_logits: (batch, classes).
        temperature: divides both logits; its square multiplies the result. The paper's is 3; the
            authors' code also divides by the number of classes, this function does not.

    Returns:
        (batch,).
    """
    student = ops.log_softmax(logits / temperature, axis=-1)
    teacher = ops.log_softmax(teacher_logits / temperature, axis=-1)
    return temperature**2 * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


DISTILLATIONS = {"hard": hard_loss, "soft": soft_loss}


_RESIZES = {"bilinear": "linear_antialias", "bicubic": "bicubic_antialias"}


class Teacher(keras.layers.Layer):
    """Logits of a model for images that were prepared for a student.

    (batch, height, width, channels), normalised as the student's -> (batch, classes), logits in the
    order of the student's classes. The layer stretches the images to the model's own size and
    normalises them as the model expects. The model becomes untrainable.

    Args:
        model: a ViT, any other Keras model, or a layer; images to logits.
        student: ViT.
        preprocessing: Preprocessing of a model that is not a ViT; the student's by default. Its
            crop is ignored: the teacher sees the same part of an image as the student.
        class_names: in the order of the model's logits, or none; ignored for a ViT, which has its
            own.
        probabilities: whether the model returns probabilities instead of logits.
        **kwargs: arguments of every Keras layer.

    Raises:
        InputError: if the model's channels do not fit the student's images, or a class of the
            student is unknown to it.
    """

    def __init__(
        self,
        model: keras.Model | keras.layers.Layer,
        student: ViT,
        preprocessing: Preprocessing | None = None,
        class_names: tuple[str, ...] = (),
        probabilities: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(model, ViT):
            preprocessing, class_names = model.preprocessing, model.class_names
        self.model = model
        self.probabilities = probabilities
        self.student_preprocessing = student.preprocessing
        self.preprocessing: Preprocessing = preprocessing or student.preprocessing
        dtypes = [image.dtype for image in getattr(model, "inputs", None) or []]
        self.integer_inputs = any(not keras.backend.is_float_dtype(dtype) for dtype in dtypes)
        channels = student.preprocessing.channels
        if self.preprocessing.channels not in (channels, 3):
            raise InputError(
                f"the teacher's images have {self.preprocessing.channels} channels, the student's "
                f"{channels}."
            )
        self.order = _class_order(class_names, student.class_names)
        self.trainable = False

    def call(self, images: Tensor) -> Tensor:
        original = self.student_preprocessing
        mean, std = np.array(original.mean, "float32"), np.array(original.std, "float32")
        pixels = 255 * (images * std + mean)
        if self.preprocessing.channels != original.channels:
            pixels = ops.repeat(pixels, self.preprocessing.channels, axis=-1)
        images = self.preprocessing.normalise(self._stretch(pixels))
        if self.integer_inputs:
            images = ops.round(images)
        logits = ops.cast(self.model(images, training=False), "float32")
        if self.probabilities:
            logits = ops.log(ops.maximum(logits, 1e-30))
        if self.order is not None:
            logits = ops.take(logits, self.order, axis=-1)
        return ops.stop_gradient(logits)

    def _stretch(self, images: Tensor) -> Tensor:
        """Resizes to the model's size with antialiasing, as matrix products.

        XLA has no antialiased resizing for TensorFlow.
        """
        old, new = tuple(images.shape[1:3]), self.preprocessing.image_size
        if old == new:
            return images
        method = _RESIZES[self.preprocessing.interpolation]
        down, across = (
            resize_matrix(*sides, method).astype("float32") for sides in zip(old, new, strict=True)
        )
        return ops.einsum("ry,byxk,cx->brck", down, images, across)


def _class_order(
    teacher_names: tuple[str, ...], student_names: tuple[str, ...]
) -> list[int] | None:
    """Returns the teacher's indices of the student's classes; None if either has no names."""
    if not (teacher_names and student_names):
        return None
    for name in student_names:
        if name not in teacher_names:
            raise InputError(
                f"the teacher knows no class {name!r}{did_you_mean(name, teacher_names)}"
            )
    return [teacher_names.index(name) for name in student_names]


class Distiller(keras.Model):
    """A student with its teacher, to be compiled with the loss for labels, and fitted.

    Save the student afterwards: `fit` trains its weights. Evaluation does not use the teacher, and
    takes the mean of both heads as logits.

    Args:
        student: ViT, best one with `distilled`.
        teacher: Teacher, or a model to make one of. None if the targets contain its output: then
            they are (batch, 2 * classes), and the second half is the teacher's probabilities.
        kind: a key of DISTILLATIONS.
        share: weight of the teacher's loss in [0, 1]; the paper's is 0.5 for "hard", 0.1 for
            "soft".
        temperature: of "soft".

    Raises:
        InputError: for an unknown kind, and a teacher with another number of classes.
    """

    def __init__(
        self,
        student: ViT,
        teacher: Teacher | keras.Model | None = None,
        kind: str = "hard",
        share: float = 0.5,
        temperature: float = 3.0,
    ) -> None:
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
            teacher_classes = teacher(student.input).shape[-1]
            if teacher_classes != student.config.num_classes:
                raise InputError(
                    f"the teacher has {teacher_classes} classes, the student "
                    f"{student.config.num_classes}."
                )
        self.build(student.input_shape)

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        """Computes both heads' logits.

        Args:
            images: (batch, height, width, channels), normalised.
            training: whether to drop units.

        Returns:
            (2, batch, classes).
        """
        return ops.stack(self.heads(images, training=training))

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Mixes the loss for labels and the teacher's; without `training` only the former.

        Args:
            x: images.
            y: labels, or labels and the teacher's probabilities.
            y_pred: (2, batch, classes).
            sample_weight: (batch,), or None.
            training: whether the teacher counts.

        Returns:
            A scalar.
        """
        if not training:
            logits = ops.mean(y_pred, axis=0)
            return super().compute_loss(x, _labels(y, logits), logits, sample_weight, training)
        logits, distilled = y_pred[0], y_pred[1]
        if self.teacher:
            teacher_logits = self.teacher(x)
        else:
            y, probabilities = ops.split(y, 2, axis=-1)
            teacher_logits = ops.log(ops.maximum(probabilities, 1e-30))
        label_loss = super().compute_loss(x, y, logits, sample_weight, training)
        losses = DISTILLATIONS[self.kind](distilled, teacher_logits, self.temperature)
        teacher_loss = PerExampleLoss()(losses, losses, sample_weight)
        return (1 - self.share) * label_loss + self.share * teacher_loss

    def compute_metrics(
        self, x: Tensor, y: Tensor, y_pred: Tensor, sample_weight: Tensor = None
    ) -> dict[str, Any]:
        """Computes the metrics of the mean of both heads.

        Args:
            x: images.
            y: as in `compute_loss`.
            y_pred: (2, batch, classes).
            sample_weight: (batch,), or None.

        Returns:
            {name: value}.
        """
        logits = ops.mean(y_pred, axis=0)
        return super().compute_metrics(x, _labels(y, logits), logits, sample_weight)


def _labels(y: Tensor, logits: Tensor) -> Tensor:
    """Targets -> labels, without a teacher's probabilities if there are any."""
    return y if len(y.shape) < 2 else y[..., : logits.shape[-1]]
