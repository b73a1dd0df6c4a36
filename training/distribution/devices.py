"""--distribute NAME -> the devices a run trains on, with an unchanged recipe.

This is what both engines share; distribute_tensorflow.py and distribute_jax.py, of which Keras's
backend decides, have a table DEVICES of what they offer.
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
from typing import Any

import keras

from training.data.sampling import ALONE, Share
from vit_keras.utils.errors import InputError, did_you_mean

SECONDS = 5  # between two looks at the other workers
MISSED = 3  # looks, after which a worker is taken for lost
LONGEST = 2 * SECONDS * (MISSED + 1)  # until that is said, where looks take their full time


@dataclasses.dataclass(frozen=True)
class Devices:
    """Where a process trains; this one on what Keras takes by itself.

    engine: tf.distribute.Strategy or keras.distribution.Distribution, or None.
    share: of every batch, what this process computes.
    workers: addresses of all processes, where there are several.
    index: of this process.
    """

    engine: Any = None
    share: Share = ALONE
    workers: tuple[str, ...] = ()
    index: int = 0

    @property
    def chief(self):
        """Whether this process writes the run folder"""
        return self.index == 0

    def check(self, recipe):
        """Raises InputError for what these devices cannot do."""
        # What `predict` gives on several devices is in another order, or on another machine.
        if self.engine and (recipe.tune == "head" or recipe.head_first or recipe.teacher_cache):
            raise InputError(
                "--distribute cannot be joined with tune=head, head_first=true or "
                "teacher_cache=true."
            )

    def adapted(self, recipe):
        """The recipe, as these devices compute it."""
        return recipe

    @contextlib.contextmanager
    def scope(self):
        """Where models are made and trained; it ends when that has ended in all processes."""
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

    def training(self, make_batches):
        """Share -> batches, as `fit` takes them"""
        return make_batches(self.share)

    def validation(self, batches, count):
        """All batches, of `count` images, as `fit` takes them for validation"""
        return batches

    def gather(self, number):
        """An int of each worker -> all of them"""
        return [number]

    def check_agreement(self, *facts):
        """Raises InputError where the workers differ in any of the facts, which are texts."""
        digest = hashlib.sha256("\0".join(facts).encode()).digest()
        if len(set(self.gather(int.from_bytes(digest[:3], "big")))) > 1:
            raise InputError(
                "the workers do not see the same images, recipe and checkpoints. Give all of them "
                "the same command, with data and --out on a file system that they share."
            )


def find_devices(name) -> Devices:
    """The Devices of `--distribute NAME`.

    Raises:
        InputError: where Keras's backend does not offer it, TF_CONFIG does not tell the workers,
            or it comes too late in a process.
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


def cluster():
    """Addresses of all workers, and the index of this one, from TF_CONFIG"""
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
def watching(others):
    """Ends this process, with status 1, where another one cannot be reached any more.

    The engines log that they have lost it, and wait for it, or fail with a traceback.

    Args:
        others: {what it is: 'HOST:PORT'}
    """
    finished = threading.Event()

    def watch():
        missed = dict.fromkeys(others, 0)
        while not finished.wait(SECONDS):
            for name, address in others.items():
                missed[name] = 0 if answers(address) else missed[name] + 1
                if missed[name] >= MISSED and not finished.is_set():
                    lost = f"Error: {name} ({address}) is lost."
                    again = "Start it again, and this run, on all workers, with --resume."
                    print(lost, again, file=sys.stderr, flush=True)
                    os._exit(1)  # the other thread waits in the engine, for ever

    if others:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception:
        if others:  # perhaps because one is lost: then the watch will say so
            time.sleep(LONGEST)
        raise
    finally:
        finished.set()


def _split(address):
    host, _, port = address.rpartition(":")
    return host, int(port)


def answers(address):
    """Whether something listens at 'HOST:PORT'"""
    try:
        socket.create_connection(_split(address), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def listen(address):
    """Lets `answers` find this process, as long as it runs."""
    server = socket.create_server(_split(address))

    def accept():
        while True:
            server.accept()[0].close()

    threading.Thread(target=accept, daemon=True).start()
