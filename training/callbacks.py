"""Keras callbacks of a run: best model, averaged weights, NaN stop, throughput, checkpoints."""

import time

import keras
import numpy as np

from training.runs.checkpoint import KEPT, Checkpoint
from vit_keras.utils.files import replacing, write_text


class WriteCheckpoints(keras.callbacks.Callback):
    """Writes folder/step-0000001234.npz every so many seconds, and keeps the last two.

    Stands behind the callback that evaluates averages, which gives weights back when an epoch
    begins, and tells the one that saves the best model to it.

    Args:
        folder: path.
        model: the model with the weights that are trained.
        best: SaveBest.
        images: `fingerprint`.
        steps_per_epoch: of the run, where `fit` may have been called for fewer.
        seconds: between two checkpoints.
        asked: threading.Event, set where the run has to stop.
        between: whether to write in the middle of an epoch, too.
        start: Checkpoint the run goes on from, or None.

    Attributes:
        step: steps that were done, of the whole run.
    """

    def __init__(
        self, folder, model, best, images, steps_per_epoch, seconds, asked, between, start=None
    ):
        super().__init__()
        self.folder = folder
        self.vit = model
        self.best = best
        self.images = images
        self.steps_per_epoch = steps_per_epoch
        self.seconds = seconds
        self.asked = asked
        self.between = between
        self.start = start
        self.last = time.monotonic()
        self.step = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.start and self.start.step % self.steps_per_epoch:
            self.start.restore("metrics", self.model.metrics_variables)
        self.start = None
        self._write_if_due(epoch * self.steps_per_epoch)

    def on_train_batch_end(self, batch, logs=None):
        self.step = step_number(self, self.epoch, batch)
        # What comes after an epoch's last step belongs to it.
        if self.step % self.steps_per_epoch and self.between:
            self._write_if_due(self.step)

    def _write_if_due(self, step):
        if step and (self.asked.is_set() or time.monotonic() >= self.last + self.seconds):
            self._write(step)
        if self.asked.is_set():
            raise KeyboardInterrupt

    def _write(self, step):
        if keras.backend.backend() == "jax":  # whose state is elsewhere within an epoch
            self.model.jax_state_sync()
        groups = {
            "model": self.vit.variables,
            "optimizer": self.model.optimizer.variables,
            # An epoch begins with none; and they are sums of what the workers have.
            "metrics": self.model.metrics_variables if step % self.steps_per_epoch else [],
        }
        arrays = {name: [np.asarray(v) for v in found] for name, found in groups.items()}
        best = {"best": self.best.best, "epoch": self.best.epoch}
        self.folder.mkdir(exist_ok=True)
        Checkpoint(step, arrays, best, self.images).write(self.folder / f"step-{step:010}.npz")
        for old in sorted(self.folder.glob("step-*.npz"))[:-KEPT]:
            old.unlink()
        self.last = time.monotonic()


def step_number(callback, epoch, batch):
    """Steps of the run after a batch of an epoch that `fit` may have begun in its middle"""
    return (epoch + 1) * callback.steps_per_epoch - callback.params["steps"] + batch + 1


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
        optimizer = inner_optimizer(self.model.optimizer)
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
            rate = float(inner_optimizer(self.model.optimizer)._learning_rate(step - 1))
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


def inner_optimizer(optimizer):
    """The optimizer inside of a LossScaleOptimizer, or the optimizer itself"""
    return getattr(optimizer, "inner_optimizer", optimizer)
