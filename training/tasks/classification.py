"""Images -> classes: the task that most runs have."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from training.data.examples import Examples
from training.data.pipeline import evaluation_batches
from training.data.sampling import balanced_weights
from training.model.build import ModelPlan, build_classifier
from training.model.losses import LOSSES
from training.model.trainer import Objective
from training.reports.classification import classification_report
from training.reports.metrics import evaluate, format_evaluation
from training.reports.sections import Report
from training.runs.folder import RunFolder
from training.runs.outputs import write_predictions, write_samples
from training.tasks.task import Evaluation, Task
from vit_keras import ViT
from vit_keras.utils.errors import InputError

if TYPE_CHECKING:
    from training.recipe import Recipe

BATCH_SIZE = 64


class Classification(Task):
    """Learns the classes of images."""

    def check(self, recipe: "Recipe") -> None:
        if recipe.distillation.teacher:
            raise InputError(
                f"task={recipe.task} does not learn from a teacher; add --set task=distillation. "
                f"Got teacher={recipe.distillation.teacher!r}."
            )

    def build_model(self, recipe: "Recipe", plan: ModelPlan, class_names: tuple[str, ...]) -> ViT:
        return build_classifier(recipe, plan, class_names)

    def objective(self, recipe: "Recipe", model: ViT, train: Examples) -> Objective:
        targets = class_targets(recipe, train)
        return Objective(targets, compile_options=lambda: class_losses(recipe))

    def check_model(self, model: ViT, name: str) -> None:
        if not model.config.num_classes:
            raise InputError(
                f"{name} has no classes; fine-tune it first: python -m training fit finetune "
                f"--weights {name} --data FOLDER."
            )

    def evaluate(
        self, model: ViT, examples: Examples, recipe: "Recipe", flip: bool = False
    ) -> Evaluation:
        probabilities = predict_probabilities(model, examples, flip)
        return Evaluation(evaluate(probabilities, examples), probabilities)

    def format(self, evaluation: dict[str, Any]) -> str:
        return format_evaluation(evaluation)

    def report(
        self,
        run: RunFolder,
        recipe: "Recipe",
        model: ViT,
        examples: Examples,
        evaluation: dict[str, Any],
        predictions: Any,
    ) -> Report:
        write_predictions(run.predictions, predictions, examples)
        write_samples(examples, run.samples, 2 * max(model.config.image_size))
        return classification_report(run, recipe, model, examples, evaluation, predictions)

    def summary(self, recipe: "Recipe", model: ViT) -> str:
        return f"{len(model.class_names)} classes"

    def caption(self, row: np.ndarray, class_names: tuple[str, ...]) -> str:
        largest = [index for index in np.argsort(-row)[:2] if row[index] >= 0.005]
        if len(largest) == 1:
            return class_names[largest[0]]
        return "\n".join(f"{class_names[index]} {row[index]:.0%}" for index in largest)


class ClassTargets:
    """Targets whose rows are class probabilities.

    Args:
        examples: Examples.
        label_smoothing: fraction of the target that is spread over all classes.
        class_weights: (classes,), the weight of an image of each class; None for no weights.
    """

    def __init__(
        self,
        examples: Examples,
        label_smoothing: float = 0.0,
        class_weights: np.ndarray | None = None,
    ) -> None:
        self.labels = tf.constant(examples.labels)
        self.classes = len(examples.class_names)
        self.label_smoothing = label_smoothing
        self.class_weights = None
        if class_weights is not None:
            self.class_weights = tf.constant(class_weights, tf.float32)

    def rows(self, indices: tf.Tensor) -> tf.Tensor:
        """One-hot labels, float32 (count, classes)."""
        return tf.one_hot(tf.gather(self.labels, indices), self.classes)

    def finish(self, images: tf.Tensor, rows: tf.Tensor, seed: tf.Tensor) -> tuple:
        """Returns (images, smoothed rows) and, with class weights, float32 (count,) weights."""
        smoothing = self.label_smoothing
        targets = (1 - smoothing) * rows + smoothing / self.classes
        if self.class_weights is None:
            return images, targets
        return images, targets, tf.linalg.matvec(rows, self.class_weights)


def class_targets(recipe: "Recipe", train: Examples) -> ClassTargets:
    """The targets of a recipe: smoothed labels and, where it balances by weights, weights."""
    balanced = recipe.data.balance == "weights"
    class_weights = balanced_weights(train) if balanced else None
    return ClassTargets(train, recipe.optimization.label_smoothing, class_weights)


def class_losses(recipe: "Recipe") -> dict[str, Any]:
    """The loss and metrics of class probabilities, for `compile`."""
    return {
        "loss": LOSSES[recipe.optimization.loss],
        "weighted_metrics": [keras.metrics.CategoricalAccuracy(name="accuracy")],
    }


def predict_probabilities(model: ViT, examples: Examples, flip: bool = False) -> np.ndarray:
    """Computes the softmax of the model's logits for every example, in order.

    Args:
        model: ViT with classes.
        examples: Examples.
        flip: whether to average the probabilities of each image and of its mirror image.

    Returns:
        float32 (count, classes).
    """
    batches = evaluation_batches(examples, model.preprocessing, BATCH_SIZE)
    images = batches.map(lambda images, labels: images)
    views = [images]
    if flip:
        views.append(images.map(lambda images: tf.reverse(images, axis=[2])))
    logits = [model.predict(view, verbose=0) for view in views]
    return np.mean([keras.ops.softmax(view) for view in logits], axis=0)
