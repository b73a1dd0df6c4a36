"""The state of a run in training -> files it goes on from, bit for bit.

All that changes from step to step is in them: the model's weights and the seeds of its random
layers, what the optimizer keeps, the metrics of the epoch so far, and which model was the best.
Batches are functions of a step's number, and need no state.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import signal
import threading
import zipfile
from typing import Any

import numpy as np

from vit_keras.utils.files import replacing

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


def stretches(first, last, steps_per_epoch, apart=False):
    """Steps first..last -> [(first, last), ...]: the rest of an epoch, and the whole ones

    Args:
        apart: whether each epoch is one by itself.
    """
    whole = min(-(-first // steps_per_epoch) * steps_per_epoch, last)
    ends = [whole, *(range(whole + steps_per_epoch, last, steps_per_epoch) if apart else ()), last]
    return [span for span in itertools.pairwise([first, *ends]) if span[0] < span[1]]


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
