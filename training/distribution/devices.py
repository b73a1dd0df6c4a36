"""--distribute NAME -> the devices a run trains on, with an unchanged recipe.

This is what both backends share; tensorflow_devices.py and jax_devices.py each have a table
DEVICES of what they offer.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from training.data.sampling import ALONE, Share
from vit_keras.utils.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from training.recipe import Recipe

POLL_SECONDS = 5  # between two checks of the other workers
FAILED_POLLS = 3  # in a row, after which a worker counts as lost
LOST_AFTER_SECONDS = 2 * POLL_SECONDS * (FAILED_POLLS + 1)  # at most, where checks time out


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices of this process; the base class is Keras's default device.

    Attributes:
        engine: tf.distribute.Strategy or keras.distribution.Distribution, or None.
        share: the part of every batch that this process computes.
        workers: addresses of all processes, where there are several.
        index: of this process.
    """

    engine: Any = None
    share: Share = ALONE
    workers: tuple[str, ...] = ()
    index: int = 0

    @property
    def chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.index == 0

    def check(self, recipe: "Recipe") -> None:
        """Checks that these devices can train by a recipe.

        Raises:
            InputError: where they cannot.
        """
        head = recipe.fine_tuning.trainable == "head" or recipe.fine_tuning.head_first
        # On several devices `predict` returns rows in another order, or on another machine.
        if self.engine and (head or recipe.distillation.teacher_cache):
            raise InputError(
                "--distribute cannot be combined with trainable=head, head_first=true or "
                "teacher_cache=true."
            )

    def adapted(self, recipe: "Recipe") -> "Recipe":
        """The recipe with the options that these devices can execute."""
        return recipe

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Scope in which models are built and trained; it ends when all processes are done."""
        if not self.engine:
            yield
            return
        others = {
            f"worker {number}": address
            for number, address in enumerate(self.workers)
            if number != self.index
        }
        with self.engine.scope(), watching(others):
            yield
            self.check_agreement("finished")

    def training(self, make_batches: Callable[[Share], tf.data.Dataset]) -> Any:
        """Training batches for `fit`, from a function of the share that a process computes."""
        return make_batches(self.share)

    def validation(self, batches: tf.data.Dataset, count: int) -> tf.data.Dataset:
        """Validation batches for `fit`.

        Args:
            batches: all batches.
            count: images in them.
        """
        return batches

    def gather(self, number: int) -> list[int]:
        """Collects one number from each worker."""
        return [number]

    def check_agreement(self, *facts: str) -> None:
        """Checks that all workers have the same facts.

        Raises:
            InputError: where they differ.
        """
        digest = hashlib.sha256("\0".join(facts).encode()).digest()
        if len(set(self.gather(int.from_bytes(digest[:3], "big")))) > 1:
            raise InputError(
                "the workers differ in images, recipe or checkpoints. Start all of them with "
                "the same command, with data and --out on a file system that they share."
            )


def find_devices(name: str) -> Devices:
    """Finds the devices of `--distribute NAME`.

    Raises:
        InputError: where Keras's backend does not offer it, TF_CONFIG does not list the workers,
            or the process has already used its devices.
    """
    if name == "none":
        return Devices()
    backend = keras.backend.backend()
    try:
        table = importlib.import_module(f"training.distribution.{backend}_devices").DEVICES
    except ModuleNotFoundError:
        table = {}
    if name not in table:
        raise InputError(
            f"Keras's backend {backend} has no --distribute {name}{did_you_mean(name, table)}"
        )
    return table[name]()


def cluster() -> tuple[tuple[str, ...], int]:
    """Addresses of all workers, and the index of this one, from TF_CONFIG.

    Raises:
        InputError: where TF_CONFIG is missing or incomplete.
    """
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        addresses, task = config["cluster"]["worker"], config["task"]
        index = int(task["index"])
        if task["type"] != "worker" or not 0 <= index < len(addresses):
            raise ValueError(f"task {task}")
        [_split(address) for address in addresses]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "--distribute multi-worker needs the workers in TF_CONFIG, such as "
            '\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": '
            f'"worker", "index": 0}}}}\', with another index on each. Got {error!r}.'
        ) from error
    print(f"Worker {index} of {len(addresses)}: waiting for the others.", flush=True)
    return tuple(addresses), index


@contextlib.contextmanager
def watching(others: Mapping[str, str]) -> Iterator[None]:
    """Ends this process, with status 1, when another process can no longer be reached.

    TensorFlow and JAX would wait for a lost worker, or fail with a traceback.

    Args:
        others: {description: 'HOST:PORT'} of the other processes.
    """
    finished = threading.Event()

    def watch():
        failures = dict.fromkeys(others, 0)
        while not finished.wait(POLL_SECONDS):
            for name, address in others.items():
                failures[name] = 0 if is_listening(address) else failures[name] + 1
                if failures[name] >= FAILED_POLLS and not finished.is_set():
                    lost = f"Error: {name} ({address}) is lost."
                    again = "Start it again, and this run, on all workers, with --resume."
                    print(lost, again, file=sys.stderr, flush=True)
                    os._exit(1)  # the main thread may wait for the lost worker for ever

    if others:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception:
        if others:  # perhaps because one is lost: then `watch` reports it
            time.sleep(LOST_AFTER_SECONDS)
        raise
    finally:
        finished.set()


def _split(address):
    host, _, port = address.rpartition(":")
    return host, int(port)


def is_listening(address: str) -> bool:
    """Whether a process listens at 'HOST:PORT'."""
    try:
        socket.create_connection(_split(address), timeout=POLL_SECONDS).close()
    except OSError:
        return False
    return True


def listen(address: str) -> None:
    """Accepts connections, so that `is_listening` finds this process while it runs."""
    server = socket.create_server(_split(address))

    def accept():
        while True:
            server.accept()[0].close()

    threading.Thread(target=accept, daemon=True).start()
