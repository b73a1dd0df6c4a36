"""Model + recipe -> the model that `fit` is called on, at each image size of the run."""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from training.callbacks import EvaluateEMA, inner_optimizer
from training.data.pipeline import Targets
from training.model.build import dtype_policy
from training.model.fine_tuning import restrict
from training.model.optimizer import build_optimizer
from vit_keras import ViT, ViTConfig
from vit_keras.layers.positions import resize_positions
from vit_keras.weights import from_weights

if TYPE_CHECKING:
    from training.recipe import Recipe


def twin(model: ViT) -> keras.Model:
    """A model with the same layers, to be compiled: the original is saved without an optimizer."""
    fields = ("config", "preprocessing", "decoder")
    own = {key: value for key, value in model.get_config().items() if key in fields}
    return type(model)(model.input, model.output, name=model.name, **own)


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a run fits; a task makes one from a recipe, a model and training images.

    Attributes:
        targets: Targets of the training images.
        wrap: ViT -> the uncompiled model that `fit` is called on.
        compile_options: () -> {"loss", "weighted_metrics", ...} for `compile`; empty where the
            model computes its own loss.
    """

    targets: Targets
    wrap: Callable[[ViT], keras.Model] = twin
    compile_options: Callable[[], dict[str, Any]] = dict


@dataclasses.dataclass(frozen=True)
class RunLength:
    """How long a run is.

    Attributes:
        epochs: passes over the training images.
        steps_per_epoch: batches of an epoch.
    """

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Batches of the whole run."""
        return self.epochs * self.steps_per_epoch


def run_length(recipe: "Recipe", images: int) -> RunLength:
    """The length of a run on that many training images."""
    options = recipe.optimization
    steps_per_epoch = max(1, round(images / options.batch_size))
    if not options.steps:
        return RunLength(options.epochs, steps_per_epoch)
    epochs = max(1, round(options.steps / steps_per_epoch))
    return RunLength(epochs, round(options.steps / epochs))


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a run with one image size.

    Attributes:
        image_size: (height, width), pixels.
        begin: number of the first epoch, from 0.
        end: number of the last epoch + 1.
    """

    image_size: tuple[int, int]
    begin: int
    end: int


def phases(recipe: "Recipe", config: ViTConfig, epochs: int) -> list[Phase]:
    """The phases of progressive resizing; sizes are rounded to whole patches."""
    found, begin = [], 0
    patch = config.patch_size
    for scale, fraction in recipe.augmentation.progressive_resizing:
        end = min(epochs - 1, begin + round(fraction * epochs))
        height, width = (max(1, round(scale * side / patch)) * patch for side in config.image_size)
        found.append(Phase((height, width), begin, end))
        begin = end
    found.append(Phase(config.image_size, begin, epochs))
    return [phase for phase in found if phase.begin < phase.end]


def build_trainer(
    model: ViT, recipe: "Recipe", objective: Objective, length: RunLength
) -> keras.Model:
    """Builds and compiles the model that `fit` is called on; it shares the model's weights.

    Args:
        model: the model to train.
        recipe: Recipe.
        objective: Objective of the recipe's task.
        length: RunLength.
    """
    execution = recipe.execution
    compile_options = objective.compile_options()
    with dtype_policy(execution.mixed_precision):  # float16 needs loss scaling
        trainer = objective.wrap(model)
        trainer.compile(
            build_optimizer(
                recipe.optimization, length.steps_per_epoch, length.epochs, model.config.depth
            ),
            **compile_options,
            # TensorFlow's own kernels may be faster than XLA's; JAX has none.
            jit_compile=execution.jit_compile or keras.backend.backend() == "jax",
            steps_per_execution=math.gcd(execution.steps_per_execution, length.steps_per_epoch),
        )
    return trainer


def trainer_at_size(
    model: ViT,
    trainer: keras.Model,
    image_size: tuple[int, int],
    recipe: "Recipe",
    objective: Objective,
    length: RunLength,
) -> tuple[ViT, keras.Model]:
    """Rebuilds a model for another image size, and a trainer that continues the training.

    Positions and their averages are resized by the model's own rule, the optimizer's statistics of
    their gradients bilinearly, so that squares stay positive.

    Args:
        model: the model so far.
        trainer: its trainer, of `build_trainer`.
        image_size: (height, width), pixels.
        recipe: Recipe.
        objective: Objective of the recipe's task.
        length: RunLength.

    Returns:
        The model at the new size, and its trainer.
    """
    resized = model_at_size(model, image_size, recipe)
    restrict(resized, recipe.fine_tuning)
    after = build_trainer(resized, recipe, objective, length)
    after.optimizer.build(after.trainable_variables)
    for old, new in zip(trainer.optimizer.variables, after.optimizer.variables, strict=True):
        value = np.asarray(old)
        if value.shape != new.shape:  # statistics of a table of positions
            grids = model.config.grid, resized.config.grid
            value = resize_positions(value[0], *grids, "corners")[np.newaxis]
        new.assign(value)
    if recipe.optimization.ema_momentum:
        _resize_averages(model, trainer, after, image_size, recipe)
    return resized, after


def _resize_averages(model, trainer, after, image_size, recipe):
    """Gives `after` the moving averages of `trainer`, with positions resized."""
    swap = EvaluateEMA()
    swap.set_model(trainer)
    swap.swap()
    averaged = model_at_size(model, image_size, recipe)
    swap.swap()
    restrict(averaged, recipe.fine_tuning)
    averages = inner_optimizer(after.optimizer).averages
    for average, weight in zip(averages, averaged.trainable_variables, strict=True):
        average.assign(weight)


def model_at_size(model: ViT, image_size: tuple[int, int], recipe: "Recipe") -> ViT:
    """Rebuilds a model, with its weights, for another image size; returns it as is for its own."""
    if image_size == model.config.image_size:
        return model
    with dtype_policy(recipe.execution.mixed_precision):
        return from_weights(model, image_size=image_size, name=model.name)
