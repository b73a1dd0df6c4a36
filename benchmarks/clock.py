"""A training -> its time and its curve; stops it when the time is over."""

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np


class Clock(keras.callbacks.Callback):
    """Times a training from its first finished step on, in CPU and in wall seconds.

    Tracing and compiling the first step are not counted, and neither is `validate`.

    Args:
        limit: CPU seconds after which training stops.
        validate: returns the accuracy on the validation images; called `validations` times at
            equal distances within the limit. By default Keras's validation makes the curve.
        validations: number of calls of `validate`.

    Attributes:
        curve: [(CPU seconds, validation accuracy), ...]
        seconds: CPU seconds of the training, at its end.
        wall: wall seconds of the training, at its end.
        epochs: passes over the training images.
    """

    def __init__(
        self,
        limit: float = math.inf,
        validate: Callable[[], float] | None = None,
        validations: int = 15,
    ) -> None:
        super().__init__()
        self.limit = limit
        self.validate = validate
        self.validations = validations
        self.curve: list[tuple[float, float]] = []
        self._start: np.ndarray | None = None  # (2,): CPU seconds, wall seconds
        self._paused = np.zeros(2)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Starts the clock after the first step; validates and stops when it is time."""
        self.epochs = self._epoch + (batch + 1) / self.params["steps"]
        if self._start is None:
            self._start = _now()
        seconds, _ = self._elapsed()
        if self.validate and seconds >= min(self._next_validation(), self.limit):
            before = _now()
            self.curve.append((seconds, self.validate()))
            self._paused += _now() - before
        if seconds >= self.limit:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds Keras's validation to the curve."""
        if logs and "val_accuracy" in logs:
            self.curve.append((self._elapsed()[0], logs["val_accuracy"]))

    def on_train_end(self, logs: dict | None = None) -> None:
        """Stops the clock."""
        self.seconds, self.wall = self._elapsed()

    def result(self, accuracy: float) -> dict[str, Any]:
        """Returns what a run's JSON file holds, with the accuracy on the test images."""
        return {
            "accuracy": accuracy,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "wall": self.wall,
            "curve": self.curve,
        }

    def _next_validation(self) -> float:
        return (len(self.curve) + 1) * self.limit / self.validations

    def _elapsed(self) -> tuple[float, float]:
        seconds, wall = _now() - self._start - self._paused
        return float(seconds), float(wall)


def _now() -> np.ndarray:
    """Seconds (2,): CPU time of this process, wall clock."""
    return np.array([time.process_time(), time.perf_counter()])
