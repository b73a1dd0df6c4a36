"""State of a run in training <-> files from which it is resumed, bit for bit.

A checkpoint holds everything that changes from step to step: the model's weights and the seeds of
its random layers, the optimizer's variables, the metrics of the epoch so far, and which model was
the best. Batches are functions of a step's number and need no state.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from training.data.examples import Examples
from vit_keras.utils.errors import WriteError
from vit_keras.utils.files import replacing

CHECKPOINTS_KEPT = 2


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of one checkpoint file.

    Attributes:
        step: number of finished steps, of the whole run.
        groups: {"model", "optimizer", "metrics": [array, ...]}, their variables in order.
        best: {"best": score, "epoch": number} of the best model so far.
        images: `fingerprint` of the training and validation images.
    """

    step: int
    groups: dict[str, list[np.ndarray]]
    best: dict[str, float]
    images: str

    def write(self, path: pathlib.Path) -> None:
        """Writes the file next to its place, reads it back, and only then renames it.

        Raises:
            OSError: where it cannot be written or read back.
        """
        fields = {"step": self.step, "best": self.best, "images": self.images}
        arrays: dict[str, Any] = {
            f"{group}-{index}": array
            for group, members in self.groups.items()
            for index, array in enumerate(members)
        }
        try:
            with replacing(path) as temporary:
                with open(temporary, "wb") as file:
                    np.savez(file, fields=np.array(json.dumps(fields)), **arrays)
                    file.flush()
                    os.fsync(file.fileno())
                with zipfile.ZipFile(temporary) as archive:
                    if broken := archive.testzip():
                        raise OSError(f"{broken} is not what was written")
        except WriteError:
            raise
        except OSError as error:
            raise OSError(f"the checkpoint {path} cannot be written: {error}") from error

    @classmethod
    def read(cls, path: pathlib.Path) -> "Checkpoint":
        """Reads a file.

        Raises:
            Exception: of any kind where the file is not complete.
        """
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise ValueError(f"{broken} is damaged")
        with np.load(path) as arrays:
            fields = json.loads(str(arrays["fields"]))
            groups: dict[str, list[np.ndarray]] = {"model": [], "optimizer": [], "metrics": []}
            for name in arrays.files[1:]:
                groups[name.partition("-")[0]].append(arrays[name])
        return cls(groups=groups, **fields)

    def restore(self, group: str, variables: Iterable[Any]) -> None:
        """Assigns the group's values to the variables."""
        for variable, array in zip(variables, self.groups[group], strict=True):
            variable.assign(array)


def latest_checkpoint(folder: pathlib.Path) -> Checkpoint | None:
    """The newest complete checkpoint in a folder, or None; damaged ones are reported."""
    for path in sorted(folder.glob("step-*.npz"), reverse=True):
        try:
            return Checkpoint.read(path)
        except Exception as error:
            print(f"Note: {path} is damaged and skipped: {error}.", flush=True)
    return None


def epoch_spans(
    first: int, last: int, steps_per_epoch: int, separate: bool = False
) -> list[tuple[int, int]]:
    """Divides steps first..last into calls of `fit`: the rest of an epoch, then whole epochs.

    Args:
        first: number of the first step.
        last: number of the last step + 1.
        steps_per_epoch: steps of an epoch.
        separate: whether every whole epoch gets a call of its own.

    Returns:
        [(first step, last step + 1), ...].
    """
    whole = min(math.ceil(first / steps_per_epoch) * steps_per_epoch, last)
    ends = list(range(whole + steps_per_epoch, last, steps_per_epoch)) if separate else []
    spans = itertools.pairwise([first, whole, *ends, last])
    return [(begin, end) for begin, end in spans if begin < end]


def step_number(steps_per_epoch: int, steps_in_call: int, epoch: int, batch: int) -> int:
    """Number of finished steps of the run after a batch.

    Args:
        steps_per_epoch: of the run.
        steps_in_call: steps of an epoch in this call of `fit`, which may begin within an epoch.
        epoch: number of the epoch, from 0.
        batch: number of the batch in this call, from 0.
    """
    return (epoch + 1) * steps_per_epoch - steps_in_call + batch + 1


def fingerprint(*splits: Examples) -> str:
    """A digest of images' names, labels, classes and their order; contents are not read."""
    digest = hashlib.sha256()
    for examples in splits:
        digest.update("\0".join([*examples.class_names, *examples.names]).encode())
        digest.update(np.asarray(examples.labels, "int64").tobytes())
    return digest.hexdigest()
