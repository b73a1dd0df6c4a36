"""The state of a run in training -> files it goes on from, bit for bit.

All that changes from step to step is in them: the model's weights and the seeds of its random
layers, what the optimizer keeps, the metrics of the epoch so far, and which model was the best.
Batches are functions of a step's number, and need no state.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
import signal
import threading
import time
import zipfile
from typing import Any

import keras
import numpy as np

from vit_keras.errors import InputError
from vit_keras.files import replacing

KEPT = 2  # checkpoints


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What one file holds.

    step: steps that were done, of the whole run.
    groups: {"model", "optimizer", "metrics": [array, ...]}, their variables in order.
    best: the attributes of SaveBest.
    images: `fingerprint` of those the run is trained and validated on.
    """

    step: int
    groups: dict[str, list[np.ndarray]]
    best: dict[str, float]
    images: str

    def write(self, path):
        """Writes the file, reads it again, and only then puts it in its place."""
        fields = {"step": self.step, "best": self.best, "images": self.images}
        arrays: dict[str, Any] = {
            f"{group}-{index}": array
            for group, found in self.groups.items()
            for index, array in enumerate(found)
        }
        try:
            with replacing(path) as temporary:
                with open(temporary, "wb") as file:
                    np.savez(file, fields=np.array(json.dumps(fields)), **arrays)
                    file.flush()
                    os.fsync(file.fileno())
                with zipfile.ZipFile(temporary) as written:
                    if broken := written.testzip():
                        raise OSError(f"{broken} is not what was written")
        except OSError as error:
            raise OSError(f"the checkpoint {path} cannot be written: {error}") from error

    @classmethod
    def read(cls, path):
        """Raises an exception of any kind where the file is not whole."""
        with zipfile.ZipFile(path) as written:
            if broken := written.testzip():
                raise ValueError(f"{broken} is damaged")
        with np.load(path) as arrays:
            fields = json.loads(str(arrays["fields"]))
            groups: dict[str, list[np.ndarray]] = {"model": [], "optimizer": [], "metrics": []}
            for name in arrays.files[1:]:
                groups[name.partition("-")[0]].append(arrays[name])
        return cls(groups=groups, **fields)

    def restore(self, group, variables):
        """Gives the variables their values."""
        for variable, array in zip(variables, self.groups[group], strict=True):
            variable.assign(array)


def latest(folder):
    """The newest Checkpoint in a folder that is whole, or None; damaged ones are told of."""
    for path in sorted(folder.glob("step-*.npz"), reverse=True):
        try:
            return Checkpoint.read(path)
        except Exception as error:
            print(f"Note: {path} is left out, it is damaged: {error}.", flush=True)
    return None


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


def stretches(first, last, steps_per_epoch, apart=False):
    """Steps first..last -> [(first, last), ...]: the rest of an epoch, and the whole ones

    Args:
        apart: whether each epoch is one by itself.
    """
    whole = min(-(-first // steps_per_epoch) * steps_per_epoch, last)
    ends = [whole, *(range(whole + steps_per_epoch, last, steps_per_epoch) if apart else ()), last]
    return [span for span in itertools.pairwise([first, *ends]) if span[0] < span[1]]


def step_number(callback, epoch, batch):
    """Steps of the run after a batch of an epoch that `fit` may have begun in its middle"""
    return (epoch + 1) * callback.steps_per_epoch - callback.params["steps"] + batch + 1


def fingerprint(*splits):
    """Examples -> text that is another one for other images, labels, classes, or their order"""
    digest = hashlib.sha256()
    for examples in splits:
        digest.update("\0".join([*examples.class_names, *examples.names]).encode())
        digest.update(np.asarray(examples.labels, "int64").tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def stop_when_asked():
    """Gives a threading.Event that Ctrl-C or SIGTERM set; a second one interrupts at once."""
    asked = threading.Event()

    def ask(number, frame):
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        print("\nStopping, and saving first; again to stop at once.", flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield asked  # others get no signals
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def alone_in(run):
    """Keeps a run folder for this process, until the block or the process ends.

    Raises:
        InputError: where another process has it.
    """
    handle = os.open(run, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process is training in the run folder {run}.") from None
        yield
    finally:
        os.close(handle)
