"""Images without labels -> a model that fills in hidden patches: MAE and SimMIM."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from training.data.examples import Examples
from training.data.masking import MaskingOptions, masked_batches, random_mask, random_noise
from training.model.build import ModelPlan, dtype_policy
from training.model.trainer import Objective
from training.reports.figures import save
from training.reports.masked import pretraining_report
from training.reports.reconstructions import SHEET, DrawReconstructions, reconstructions
from training.reports.sections import Report
from training.runs.folder import RunFolder
from training.tasks.task import Evaluation, Task
from vit_keras import DecoderConfig, ViT, build_mae, build_mim
from vit_keras.utils.errors import InputError

if TYPE_CHECKING:
    from training.recipe import Recipe


class Masked(Task, abc.ABC):
    """Learns to fill in hidden patches."""

    labelled = False
    weighted_validation = False
    unsupported = (
        "weights",
        "trainable",
        "head_first",
        "teacher",
        "balance",
        "progressive_resizing",
    )

    @abc.abstractmethod
    def draw(self, masking: MaskingOptions, grid: tuple[int, int]) -> Callable:
        """Returns a function (images, seed) -> the model's input, for a grid of patches."""

    def check_model(self, model: ViT, name: str) -> None:
        raise InputError(
            f"{name} has no classes; fine-tune it first: python -m training fit finetune "
            f"--weights {name} --data FOLDER."
        )

    def objective(self, recipe: "Recipe", model: ViT, train: Examples) -> Objective:
        return Objective(MaskedTargets(train, self.draw(recipe.masking, model.config.grid)))

    def validation_batches(
        self, examples: Examples, model: ViT, recipe: "Recipe", cache_mib: int = 0
    ) -> tf.data.Dataset:
        batches = super().validation_batches(examples, model, recipe, cache_mib)
        draw = self.draw(recipe.masking, model.config.grid)
        return masked_batches(batches, draw, recipe.execution.seed)

    def callbacks(
        self, recipe: "Recipe", model: ViT, validation: Examples, run: RunFolder
    ) -> list[keras.callbacks.Callback]:
        inputs = self._sheet_inputs(validation, model, recipe)
        folder = run.path / "inpainting"
        return [DrawReconstructions(model, inputs, folder, recipe.masking.sheet_every)]

    def evaluate(
        self, model: ViT, examples: Examples, recipe: "Recipe", flip: bool = False
    ) -> Evaluation:
        """Measures the reconstruction loss; `flip` has no effect."""
        batches = self.validation_batches(examples, model, recipe)
        model.compile(jit_compile=recipe.execution.jit_compile)
        loss = model.evaluate(batches, verbose=0)
        return Evaluation({"images": len(examples), "loss": loss})

    def format(self, evaluation: dict[str, Any]) -> str:
        images = f"{evaluation['images']:,} images ({evaluation['split']} split)"
        return f"Loss {evaluation['loss']:.4f} on {images}"

    def report(
        self,
        run: RunFolder,
        recipe: "Recipe",
        model: ViT,
        examples: Examples,
        evaluation: dict[str, Any],
        predictions: Any,
    ) -> Report:
        inputs = self._sheet_inputs(examples, model, recipe)
        save(reconstructions(model, inputs), run.path / "inpainting.png")
        return pretraining_report(run, recipe, evaluation)

    def summary(self, recipe: "Recipe", model: ViT) -> str:
        return f"{recipe.task.upper()} of {recipe.masking.mask_ratio:.0%} of the patches"

    def _sheet_inputs(self, examples, model, recipe):
        """A batch of images spread over all examples, as the model takes it."""
        spread = np.linspace(0, len(examples) - 1, min(SHEET, len(examples))).astype(int)
        return next(iter(self.validation_batches(examples.subset(spread), model, recipe)))


class MaskedAutoencoding(Masked):
    """Learns as a masked autoencoder (MAE, arXiv:2111.06377)."""

    def draw(self, masking: MaskingOptions, grid: tuple[int, int]) -> Callable:
        return random_noise(masking, grid)

    def build_model(self, recipe: "Recipe", plan: ModelPlan, class_names: tuple[str, ...]) -> ViT:
        decoder = DecoderConfig(mask_ratio=recipe.masking.mask_ratio, **recipe.masking.decoder)
        with dtype_policy(recipe.execution.mixed_precision):
            return build_mae(
                plan.config,
                decoder=decoder,
                name=recipe.model.variant,
                preprocessing=plan.preprocessing,
            )


class MaskedImageModelling(Masked):
    """Learns in the manner of SimMIM (arXiv:2111.09886)."""

    def draw(self, masking: MaskingOptions, grid: tuple[int, int]) -> Callable:
        return random_mask(masking, grid)

    def build_model(self, recipe: "Recipe", plan: ModelPlan, class_names: tuple[str, ...]) -> ViT:
        with dtype_policy(recipe.execution.mixed_precision):
            return build_mim(
                plan.config, name=recipe.model.variant, preprocessing=plan.preprocessing
            )


class MaskedTargets:
    """Targets of a masked model: the images themselves, and what is hidden of them.

    Args:
        examples: Examples.
        draw: function (images, seed) -> the model's input.
    """

    def __init__(self, examples: Examples, draw: Callable) -> None:
        self.labels = tf.constant(examples.labels)
        self.classes = len(examples.class_names)
        self.draw = draw

    def rows(self, indices: tf.Tensor) -> tf.Tensor:
        """One-hot labels, float32 (count, classes), for augmentations to mix; unused after that."""
        return tf.one_hot(tf.gather(self.labels, indices), self.classes)

    def finish(self, images: tf.Tensor, rows: tf.Tensor, seed: tf.Tensor) -> Any:
        """The model's input."""
        return self.draw(images, seed)
