"""Model + recipe -> the model that `fit` is called on, its phases and its callbacks."""

import contextlib
import math

import keras
import numpy as np

from training.callbacks import EvaluateAverages, inner_optimizer
from training.model.fine_tuning import restrict
from training.model.losses import LOSSES
from training.model.optimizer import build_optimizer
from vit_keras.layers.positions import resize_positions
from vit_keras.tasks.distillation import Distiller
from vit_keras.weights import from_weights


def build_trainer(model, recipe, steps_per_epoch, epochs, teacher=None):
    """The same weights under another model, compiled, so that what is saved has no optimizer.

    Args:
        model: ViT or a masked model.
        recipe: Recipe.
        steps_per_epoch, epochs: of the run.
        teacher: Teacher; None where there is none, or its answers come with the labels.
    """
    labelled = {
        "loss": LOSSES[recipe.loss],
        "weighted_metrics": [keras.metrics.CategoricalAccuracy(name="accuracy")],
    }
    with dtype_policy(recipe.mixed_precision):  # float16 needs its loss scaled
        if recipe.teacher:
            options = recipe.distillation, recipe.teacher_share, recipe.temperature
            trainer = Distiller(model, teacher, *options)
        else:
            trainer = _twin(model)
        trainer.compile(
            build_optimizer(recipe, steps_per_epoch, epochs, model.config.depth),
            **(labelled if recipe.pretrain == "none" else {}),
            # TensorFlow's own kernels may be faster than XLA's; JAX has none.
            jit_compile=recipe.jit or keras.backend.backend() == "jax",
            steps_per_execution=math.gcd(recipe.steps_per_execution, steps_per_epoch),
        )
    return trainer


def _twin(model):
    fields = ("config", "preprocessing", "decoder")
    own = {key: value for key, value in model.get_config().items() if key in fields}
    return type(model)(model.input, model.output, name=model.name, **own)


def run_length(recipe, images):
    """(epochs, steps per epoch) of a run on so many images."""
    per_epoch = max(1, round(images / recipe.batch_size))
    if not recipe.steps:
        return recipe.epochs, per_epoch
    epochs = max(1, round(recipe.steps / per_epoch))
    return epochs, round(recipe.steps / epochs)


def phases(recipe, config, epochs):
    """[(image size, first epoch, last epoch + 1), ...]: smaller images first, as the recipe asks.

    Sizes are rounded to whole patches.
    """
    spans, begin = [], 0
    for scale, share in recipe.smaller_first:
        end = min(epochs - 1, begin + round(share * epochs))
        patch = config.patch_size
        size = tuple(max(1, round(scale * side / patch)) * patch for side in config.image_size)
        spans.append((size, begin, end))
        begin = end
    spans.append((config.image_size, begin, epochs))
    return [span for span in spans if span[1] < span[2]]


def at_size(model, trainer, size, recipe, steps_per_epoch, epochs, teacher=None):
    """The model at another image size, and a trainer that goes on where the one given stopped.

    Positions are resized by the model's own rule, their averages too; what the optimizer keeps of
    their gradients bilinearly, so that squares stay above 0.
    """
    grown = resized(model, size, recipe)
    restrict(grown, recipe.tune)
    after = build_trainer(grown, recipe, steps_per_epoch, epochs, teacher)
    after.optimizer.build(after.trainable_variables)
    for old, new in zip(trainer.optimizer.variables, after.optimizer.variables, strict=True):
        value = np.asarray(old)
        if value.shape != new.shape:  # of a table of positions
            grids = model.config.grid, grown.config.grid
            value = resize_positions(value[0], *grids, "corners")[np.newaxis]
        new.assign(value)
    if recipe.ema:
        swap = EvaluateAverages()
        swap.set_model(trainer)
        swap.swap()
        averaged = resized(model, size, recipe)
        swap.swap()
        restrict(averaged, recipe.tune)
        averages = inner_optimizer(after.optimizer).averages
        for average, weight in zip(averages, averaged.trainable_variables, strict=True):
            average.assign(weight)
    return grown, after


def resized(model, size, recipe):
    """The model, with its weights, for another image size; itself for its own."""
    if size == model.config.image_size:
        return model
    with dtype_policy(recipe.mixed_precision):
        return from_weights(model, image_size=size, name=model.name)


@contextlib.contextmanager
def dtype_policy(name):
    """Makes it the policy of layers built inside."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
