"""Images + a teacher -> classes: knowledge distillation as in DeiT."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from training.data.examples import Examples
from training.data.pipeline import Targets, evaluation_batches
from training.model.trainer import Objective
from training.rules import INNER_FRACTION, POSITIVE, check_fields, one_of, refuse
from training.tasks.classification import (
    BATCH_SIZE,
    Classification,
    ClassTargets,
    class_losses,
    class_targets,
)
from training.tasks.teacher import load_teacher
from vit_keras import Distiller, Teacher, ViT
from vit_keras.tasks.distillation import DISTILLATIONS
from vit_keras.utils.errors import InputError
from vit_keras.weights import PUBLISHED

if TYPE_CHECKING:
    from training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class DistillationOptions:
    """Learning from a teacher as well, task "distillation" (DeiT, arXiv:2012.12877).

    Attributes:
        teacher: a .keras file, a run folder, a SavedModel, or any source of `weights`.
        distillation_loss: "hard", cross-entropy with the class the teacher predicts; or "soft",
            the divergence from its probabilities.
        teacher_weight: weight of the teacher's loss; the labels' loss has the rest. The paper's is
            0.5 for "hard", 0.1 for "soft".
        temperature: of "soft".
        teacher_mean: mean by which the teacher's input is normalised, as a fraction of 255, where
            its files do not say; the model's own by default.
        teacher_std: like teacher_mean.
        teacher_cache: whether the teacher's probabilities are computed once for each image without
            augmentation, and not for every augmented image; MixUp and CutMix mix them.
    """

    teacher: str = ""
    distillation_loss: str = "hard"
    teacher_weight: float = 0.5
    temperature: float = 3.0
    teacher_mean: tuple[float, ...] = ()
    teacher_std: tuple[float, ...] = ()
    teacher_cache: bool = False

    def __post_init__(self) -> None:
        check_fields(
            self,
            {
                "distillation_loss": one_of(DISTILLATIONS),
                "teacher_weight": INNER_FRACTION,
                "temperature": POSITIVE,
            },
        )


class Distillation(Classification):
    """Learns the classes of images from labels and from a teacher."""

    def check(self, recipe: "Recipe") -> None:
        if recipe.fine_tuning.trainable == "head":
            refuse("trainable", "head", "another one with task=distillation")

    def check_sources(self, recipe: "Recipe") -> None:
        teacher = recipe.distillation.teacher
        if not teacher:
            raise InputError("task=distillation needs a teacher; name one with --teacher MODEL.")
        if not ("://" in teacher or teacher in PUBLISHED or pathlib.Path(teacher).exists()):
            raise InputError(f"the teacher {teacher} does not exist.")

    def objective(self, recipe: "Recipe", model: ViT, train: Examples) -> Objective:
        options = recipe.distillation
        teacher = load_teacher(options, model)
        labels = class_targets(recipe, train)
        targets: Targets = labels
        if options.teacher_cache:
            targets = DistillationTargets(labels, teacher_probabilities(teacher, model, train))

        def wrap(student):
            return Distiller(
                student,
                None if options.teacher_cache else teacher,
                options.distillation_loss,
                options.teacher_weight,
                options.temperature,
            )

        return Objective(targets, wrap, lambda: class_losses(recipe))


class DistillationTargets:
    """Class targets followed by the teacher's probabilities, which are mixed like the labels.

    Args:
        targets: ClassTargets of the same examples.
        probabilities: float32 (count, classes), the teacher's for each example.
    """

    def __init__(self, targets: ClassTargets, probabilities: np.ndarray) -> None:
        self.targets = targets
        self.probabilities = tf.constant(probabilities)

    def rows(self, indices: tf.Tensor) -> tf.Tensor:
        """One-hot labels and the teacher's probabilities, float32 (count, 2 * classes)."""
        labels = self.targets.rows(indices)
        return tf.concat([labels, tf.gather(self.probabilities, indices)], axis=1)

    def finish(self, images: tf.Tensor, rows: tf.Tensor, seed: tf.Tensor) -> tuple:
        """As `ClassTargets.finish`, with targets (count, 2 * classes)."""
        classes = self.targets.classes
        images, labels, *weights = self.targets.finish(images, rows[:, :classes], seed)
        return images, tf.concat([labels, rows[:, classes:]], axis=1), *weights


def teacher_probabilities(teacher: Teacher, student: ViT, examples: Examples) -> np.ndarray:
    """Computes a teacher's probabilities for each image without augmentation.

    Args:
        teacher: Teacher.
        student: the ViT whose input the teacher takes.
        examples: Examples.

    Returns:
        float32 (count, classes).
    """
    batches = evaluation_batches(examples, student.preprocessing, BATCH_SIZE)
    model = keras.Model(student.input, teacher(student.input))
    logits = model.predict(batches.map(lambda images, labels: images), verbose=0)
    return np.asarray(keras.ops.softmax(logits))
