"""Keras callbacks of a run: best model, averaged weights, NaN stop, throughput, checkpoints."""

import dataclasses
import pathlib
import threading
import time
from typing import Any

import keras
import numpy as np

from training.runs.checkpoint import CHECKPOINTS_KEPT, Checkpoint, step_number
from vit_keras import ViT
from vit_keras.utils.files import replacing, write_text

THROUGHPUT_COLUMNS = "epoch,learning_rate,images,seconds,validation_seconds\n"


class BestModel(keras.callbacks.Callback):
    """Saves the model whenever it is the best so far on the validation images.

    The best has the highest accuracy or, where there are no classes, the lowest loss.

    Args:
        model: the model to save, with the weights that are trained.
        path: of the .keras file.
        weights: description of the weights, for the model's description.
        dataset: that the model is trained on.
    """

    def __init__(
        self,
        model: ViT,
        path: pathlib.Path,
        weights: str = "the weights",
        dataset: str = "",
    ) -> None:
        super().__init__()
        self.vit = model
        self.path = path
        self.weights = weights
        self.dataset = dataset
        self.best = -np.inf
        self.epoch = 0  # counted from 1; 0 for none

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        # A model whose logits are NaN still gets the first class right.
        if not np.isfinite(logs.get("val_loss", np.nan)):
            return
        # The last of equals: its weights have been trained for longer.
        score = logs.get("val_accuracy", -logs["val_loss"])
        if score >= self.best:
            self.best, self.epoch = score, epoch + 1
            self.vit.description = f"{self.weights}, after epoch {epoch + 1}"
            self.vit.trained_on = self.dataset
            with replacing(self.path) as path:
                self.vit.save(path)


class EvaluateEMA(keras.callbacks.Callback):
    """Replaces the weights by their moving averages while they are validated and saved.

    In contrast to Keras's SwapEMAWeights it restores the weights when training ends: the run may
    continue at another image size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.swapped = False

    def swap(self) -> None:
        """Exchanges the weights and their averages."""
        optimizer = inner_optimizer(self.model.optimizer)
        for weight, average in zip(self.model.trainable_variables, optimizer.averages, strict=True):
            before = np.asarray(weight)
            weight.assign(np.asarray(average))
            average.assign(before)
        self.swapped = not self.swapped

    def on_test_begin(self, logs: Any = None) -> None:
        self.swap()

    def on_test_end(self, logs: Any = None) -> None:
        self.swap()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.swap()  # the callbacks after this one save

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.swapped:
            self.swap()

    def on_train_end(self, logs: Any = None) -> None:
        if self.swapped:
            self.swap()


class StopOnNaN(keras.callbacks.Callback):
    """Stops training when the loss is no longer finite, and records the step and learning rate.

    Args:
        steps_per_epoch: of the run, where `fit` may be called for fewer.

    Attributes:
        where: "step 120 of epoch 2 (learning rate 0.001)", both counted from 1; "" so far.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.where = ""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not (self.where or np.isfinite((logs or {}).get("loss", 0.0))):
            step = step_number(self.steps_per_epoch, self.params["steps"], self.epoch, batch)
            rate = float(inner_optimizer(self.model.optimizer)._learning_rate(step - 1))
            group = self.model.steps_per_execution
            where = f"step {step}" if group == 1 else f"one of the {group} steps up to {step}"
            self.where = f"{where} of epoch {self.epoch + 1} (learning rate {rate:.3g})"
            self.model.stop_training = True


class ThroughputLogger(keras.callbacks.Callback):
    """Appends a row to throughput.csv after each epoch: learning rate, images, seconds.

    history.csv does not have these columns, as it is the same for a run that was resumed and for
    one that was not interrupted. Comes after the callbacks that save, whose time counts as
    validation.

    Args:
        path: of the file.
        batch_size: images in a step.
    """

    def __init__(self, path: pathlib.Path, batch_size: int) -> None:
        super().__init__()
        self.path = path
        self.batch_size = batch_size
        self.training_end: float | None = None  # of this epoch, in seconds

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch_begin, self.training_end = time.monotonic(), None

    def on_test_begin(self, logs: Any = None) -> None:
        self.training_end = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        epoch_end = time.monotonic()
        training_end = self.training_end or epoch_end
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        images = self.params["steps"] * self.batch_size
        training, validation = training_end - self.epoch_begin, epoch_end - training_end
        row = f"{epoch},{rate},{images},{training:.3f},{validation:.3f}\n"
        before = self.path.read_text() if self.path.exists() else THROUGHPUT_COLUMNS
        write_text(self.path, before + row)


@dataclasses.dataclass(frozen=True)
class CheckpointSchedule:
    """When and where checkpoints are written.

    Attributes:
        folder: of the checkpoints.
        steps_per_epoch: of the run, where `fit` may be called for fewer.
        seconds: between two checkpoints.
        stop_event: set when the run has to stop.
        within_epochs: whether to write between the steps of an epoch as well.
        images: `fingerprint` of the images of the run.
    """

    folder: pathlib.Path
    steps_per_epoch: int
    seconds: float
    stop_event: threading.Event
    within_epochs: bool
    images: str


class CheckpointWriter(keras.callbacks.Callback):
    """Writes FOLDER/step-0000001234.npz at regular times, and keeps the last two.

    Comes after `EvaluateEMA`, which restores the weights when an epoch begins.

    Args:
        schedule: CheckpointSchedule.
        model: the model with the weights that are trained.
        best: BestModel.
        start: Checkpoint from which the run is resumed, or None.

    Attributes:
        step: number of finished steps, of the whole run.
    """

    def __init__(
        self,
        schedule: CheckpointSchedule,
        model: ViT,
        best: BestModel,
        start: Checkpoint | None = None,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.vit = model
        self.best = best
        self.start = start
        self.last = time.monotonic()
        self.step = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch
        if self.start and self.start.step % self.schedule.steps_per_epoch:
            self.start.restore("metrics", self.model.metrics_variables)
        self.start = None
        self._write_if_due(epoch * self.schedule.steps_per_epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        steps_per_epoch = self.schedule.steps_per_epoch
        self.step = step_number(steps_per_epoch, self.params["steps"], self.epoch, batch)
        # The checkpoint after an epoch's last step is written when the next epoch begins.
        if self.step % steps_per_epoch and self.schedule.within_epochs:
            self._write_if_due(self.step)

    def _write_if_due(self, step):
        stop = self.schedule.stop_event.is_set()
        if step and (stop or time.monotonic() >= self.last + self.schedule.seconds):
            self._write(step)
        if stop:
            raise KeyboardInterrupt

    def _write(self, step):
        if keras.backend.backend() == "jax":  # which keeps its state elsewhere within an epoch
            self.model.jax_state_sync()
        groups = {
            "model": self.vit.variables,
            "optimizer": self.model.optimizer.variables,
            # At the beginning of an epoch metrics are empty; they may be sums over workers.
            "metrics": (
                self.model.metrics_variables if step % self.schedule.steps_per_epoch else []
            ),
        }
        arrays = {
            name: [np.asarray(variable) for variable in variables]
            for name, variables in groups.items()
        }
        best = {"best": self.best.best, "epoch": self.best.epoch}
        folder = self.schedule.folder
        folder.mkdir(exist_ok=True)
        checkpoint = Checkpoint(step, arrays, best, self.schedule.images)
        checkpoint.write(folder / f"step-{step:010}.npz")
        for old in sorted(folder.glob("step-*.npz"))[:-CHECKPOINTS_KEPT]:
            old.unlink()
        self.last = time.monotonic()


def inner_optimizer(optimizer: keras.optimizers.Optimizer) -> Any:
    """The optimizer inside of a LossScaleOptimizer, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)
