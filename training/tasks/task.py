"""What is learned: the interface between a run and its task."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from training.data.examples import Examples
from training.data.pipeline import evaluation_batches, even_batch_size
from training.model.build import ModelPlan
from training.model.trainer import Objective
from training.reports.sections import Report
from training.rules import refuse
from training.runs.folder import RunFolder
from vit_keras import ViT

if TYPE_CHECKING:
    from training.recipe import Recipe

EVALUATION_BATCH_SIZE = 256  # images, at least


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How good a model is on some images.

    Attributes:
        metrics: JSON-ready values for evaluation.json.
        predictions: what the model predicts for the images, for the report; None where the
            report does not need it.
    """

    metrics: dict[str, Any]
    predictions: Any = None


class Task(abc.ABC):
    """What a model learns: its targets, model, loss, evaluation and report.

    A task has no state; a run passes its recipe, model and images.

    Attributes:
        labelled: whether images have classes.
        weighted_validation: whether the loss takes sample weights, which devices need that fill
            the last validation batch up.
        unsupported: fields of a recipe that the task does not use; they must keep their defaults.
    """

    labelled: bool = True
    weighted_validation: bool = True
    unsupported: Sequence[str] = ()

    def check(self, recipe: "Recipe") -> None:
        """Checks a recipe for this task.

        Raises:
            InputError: where it sets a field that the task does not use.
        """
        fields = recipe.fields()
        defaults = type(recipe)().fields() if self.unsupported else {}
        for field in self.unsupported:
            if fields[field] != defaults[field]:
                refuse(field, fields[field], f"left at its default with task={recipe.task}")

    def check_sources(self, recipe: "Recipe") -> None:  # noqa: B027 (nothing by default)
        """Checks that files which the recipe names exist, before anything is read.

        Raises:
            InputError: where they do not, or are missing in the recipe.
        """

    def check_model(self, model: ViT, name: str) -> None:  # noqa: B027 (nothing by default)
        """Checks that a saved model can be evaluated and used.

        Raises:
            InputError: where it cannot, with the remedy.
        """

    @abc.abstractmethod
    def build_model(self, recipe: "Recipe", plan: ModelPlan, class_names: tuple[str, ...]) -> ViT:
        """Builds the model to train, with its pre-trained weights.

        Args:
            recipe: Recipe.
            plan: ModelPlan of the recipe.
            class_names: of the training images.
        """

    @abc.abstractmethod
    def objective(self, recipe: "Recipe", model: ViT, train: Examples) -> Objective:
        """Makes the targets, the loss and the metrics of a run.

        Args:
            recipe: Recipe.
            model: of `build_model`.
            train: Examples to train on.
        """

    def validation_batches(
        self, examples: Examples, model: ViT, recipe: "Recipe", cache_mib: int = 0
    ) -> tf.data.Dataset:
        """Batches of (images, targets) for validation and evaluation, every example once.

        Args:
            examples: Examples.
            model: with the Preprocessing of the images.
            recipe: Recipe.
            cache_mib: MiB of memory for normalised images.
        """
        largest = max(recipe.optimization.batch_size, EVALUATION_BATCH_SIZE)
        batch_size = even_batch_size(len(examples), largest)
        return evaluation_batches(examples, model.preprocessing, batch_size, cache_mib)

    def callbacks(
        self, recipe: "Recipe", model: ViT, validation: Examples, run: RunFolder
    ) -> list[keras.callbacks.Callback]:
        """Further callbacks for `fit`."""
        return []

    @abc.abstractmethod
    def evaluate(
        self, model: ViT, examples: Examples, recipe: "Recipe", flip: bool = False
    ) -> Evaluation:
        """Measures how good a model is.

        Args:
            model: a trained model.
            examples: Examples to evaluate on.
            recipe: Recipe of the model's run, or of defaults.
            flip: whether to average the predictions for each image and its mirror image.
        """

    @abc.abstractmethod
    def format(self, evaluation: dict[str, Any]) -> str:
        """The content of evaluation.json as text for a terminal."""

    @abc.abstractmethod
    def report(
        self,
        run: RunFolder,
        recipe: "Recipe",
        model: ViT,
        examples: Examples,
        evaluation: dict[str, Any],
        predictions: Any,
    ) -> Report:
        """Writes the pictures and tables of a run's report, and returns its text.

        Args:
            run: RunFolder with evaluation.json.
            recipe: Recipe.
            model: the model that was saved.
            examples: Examples that it was evaluated on.
            evaluation: the content of evaluation.json.
            predictions: of `evaluate`.
        """

    @abc.abstractmethod
    def summary(self, recipe: "Recipe", model: ViT) -> str:
        """What is learned, in a few words, such as "10 classes"."""

    def caption(self, row: np.ndarray, class_names: tuple[str, ...]) -> str:
        """Title of a training image on the sheet of the command `data`.

        Args:
            row: (classes,), the share of each class in the image.
            class_names: of the training images.
        """
        return ""
