"""Model + recipe -> the model that `fit` is called on, its phases and its callbacks."""

import contextlib
import math
import time

import keras
import numpy as np

from training.checkpoint import step_number
from training.losses import LOSSES
from training.optimizer import build_optimizer
from training.tune import restrict
from vit_keras.distillation import Distiller
from vit_keras.files import replacing, write_text
from vit_keras.positions import resize_positions
from vit_keras.weights import from_weights

PACE = "epoch,learning_rate,images,seconds,validation_seconds\n"


class SaveBest(keras.callbacks.Callback):
    """Writes the model, whole, whenever it is the best so far on the validation images.

    The best has the highest accuracy or, where there are no classes, the lowest loss.

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
        self.best = -np.inf
        self.epoch = 0  # counted from 1; 0 for none

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        # A model that answers NaN still gets the first class right.
        if not np.isfinite(logs.get("val_loss", np.nan)):
            return
        # Of equals the last: its weights have seen more.
        score = logs.get("val_accuracy", -logs["val_loss"])
        if score >= self.best:
            self.best, self.epoch = score, epoch + 1
            self.vit.description = f"{self.weights}, after epoch {epoch + 1}"
            with replacing(self.path) as path:
                self.vit.save(path)


class EvaluateAverages(keras.callbacks.Callback):
    """Puts the moving averages in the place of the weights while these are validated and saved.

    Unlike Keras's SwapEMAWeights it gives the weights back when training ends: it may go on at
    another image size.
    """

    def __init__(self):
        super().__init__()
        self.swapped = False

    def swap(self):
        optimizer = _inner(self.model.optimizer)
        for weight, average in zip(self.model.trainable_variables, optimizer.averages, strict=True):
            before = np.asarray(weight)
            weight.assign(np.asarray(average))
            average.assign(before)
        self.swapped = not self.swapped

    def on_test_begin(self, logs=None):
        self.swap()

    def on_test_end(self, logs=None):
        self.swap()

    def on_epoch_end(self, epoch, logs=None):  # the callbacks behind this one save
        self.swap()

    def on_epoch_begin(self, epoch, logs=None):
        if self.swapped:
            self.swap()

    def on_train_end(self, logs=None):
        if self.swapped:
            self.swap()


class StopOnNaN(keras.callbacks.Callback):
    """Ends the run where its loss is no longer a number, and keeps the step and the rate.

    Attributes:
        found: "step 120 of epoch 2 (learning rate 0.001)", counted from 1 and from the run's first
            step; "" while there is none.
    """

    def __init__(self, steps_per_epoch):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.found = ""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not (self.found or np.isfinite((logs or {}).get("loss", 0.0))):
            step = step_number(self, self.epoch, batch)
            rate = float(_inner(self.model.optimizer)._learning_rate(step - 1))
            group = self.model.steps_per_execution
            where = f"step {step}" if group == 1 else f"one of the {group} steps up to {step}"
            self.found = f"{where} of epoch {self.epoch + 1} (learning rate {rate:.3g})"
            self.model.stop_training = True


class WritePace(keras.callbacks.Callback):
    """Adds a row to pace.csv after each epoch: its last learning rate, its images, their seconds.

    Not to history.csv, which is the same for a run that went on and for one that was left alone.
    Stands behind the callbacks whose time counts as validation: those that save.

    Args:
        path: of the file.
        batch_size: images a step.
    """

    def __init__(self, path, batch_size):
        super().__init__()
        self.path = path
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.begun, self.trained = time.monotonic(), None

    def on_test_begin(self, logs=None):
        self.trained = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        ended = time.monotonic()
        trained = self.trained or ended
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        images = self.params["steps"] * self.batch_size
        row = f"{epoch},{rate},{images},{trained - self.begun:.3f},{ended - trained:.3f}\n"
        before = self.path.read_text() if self.path.exists() else PACE
        write_text(self.path, before + row)


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
        averages = _inner(after.optimizer).averages
        for average, weight in zip(averages, averaged.trainable_variables, strict=True):
            average.assign(weight)
    return grown, after


def resized(model, size, recipe):
    """The model, with its weights, for another image size; itself for its own."""
    if size == model.config.image_size:
        return model
    with dtype_policy(recipe.mixed_precision):
        return from_weights(model, image_size=size, name=model.name)


def _inner(optimizer):
    """The optimizer inside of a LossScaleOptimizer, or the optimizer itself"""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextlib.contextmanager
def dtype_policy(name):
    """Makes it the policy of layers built inside."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
