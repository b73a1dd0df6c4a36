"""Model + recipe -> the model that `fit` is called on, its phases and its callbacks."""

import contextlib
import math

import keras
import numpy as np

from training.optimizer import build_optimizer
from vit_keras.files import replacing
from vit_keras.positions import resize_positions


class SaveBest(keras.callbacks.Callback):
    """Writes the model, whole, whenever its validation accuracy is the best so far.

    Args:
        vit: the model to write, with the weights that are trained.
        path: of the .keras file.
        weights: what the weights are, for the model's description.
    """

    def __init__(self, vit, path, weights="the weights"):
        super().__init__()
        self.vit = vit
        self.path = path
        self.weights = weights
        self.accuracy = -1.0
        self.epoch = 0  # counted from 1; 0 for none

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        # A model that answers NaN still gets the first class right.
        if not np.isfinite(logs.get("val_loss", np.nan)):
            return
        # Of equals the last: its weights have seen more.
        if logs["val_accuracy"] >= self.accuracy:
            self.accuracy, self.epoch = logs["val_accuracy"], epoch + 1
            self.vit.description = f"{self.weights}, after epoch {epoch + 1}"
            with replacing(self.path) as path:
                self.vit.save(path)


class StopOnNaN(keras.callbacks.Callback):
    """Ends the run where its loss is no longer a number, and keeps the step and the rate.

    Attributes:
        found: "step 120 (learning rate 0.001)", or "".
    """

    def __init__(self, steps_per_epoch):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.found = ""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not (self.found or np.isfinite((logs or {}).get("loss", 0.0))):
            step = self.epoch * self.steps_per_epoch + batch + 1
            rate = float(self.model.optimizer.learning_rate)
            self.found = f"step {step} of epoch {self.epoch + 1} (learning rate {rate:.3g})"
            self.model.stop_training = True


def build_trainer(model, recipe, steps_per_epoch, epochs):
    """The same weights under another model, compiled, so that what is saved has no optimizer."""
    loss = {"softmax": keras.losses.CategoricalCrossentropy,
            "sigmoid": keras.losses.BinaryCrossentropy}[recipe.loss]  # fmt: skip
    with dtype_policy(recipe.mixed_precision):  # float16 needs its loss scaled
        trainer = keras.Model(model.input, model.output, name=model.name)
        trainer.compile(
            build_optimizer(recipe, steps_per_epoch, epochs, model.config.depth),
            loss(from_logits=True),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            jit_compile=recipe.jit,
            steps_per_execution=math.gcd(recipe.steps_per_execution, steps_per_epoch),
        )
    return trainer


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


def carry_over(before, after, old_grid, new_grid):
    """Gives an optimizer the state of another one for the same model at another image size."""
    for old, new in zip(before.variables, after.variables, strict=True):
        value = np.asarray(old)
        if value.shape != new.shape:  # of a table of positions; bilinear: squares stay above 0
            value = resize_positions(value[0], old_grid, new_grid, "corners")[np.newaxis]
        new.assign(value)


@contextlib.contextmanager
def dtype_policy(name):
    """Makes it the policy of layers built inside."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
