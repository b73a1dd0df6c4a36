"""Model sizes -> a Markdown table: latency of exported files in their runtimes, ours and peers'.

python -m benchmarks.latency
python -m benchmarks.latency --sizes vit_b16 --rounds 5 --runs 3

Every artefact is written in its own process, and each of its runtimes holds it in its own process:
neither packages nor thread pools meet. All are loaded and compared with the model they were made
from, and then take turns: one works while the others wait.
"""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tabulate import tabulate

# Not Keras: the worker processes import this file, and each sets its own backend, or needs none.
from benchmarks.artefacts import ARTEFACTS, OURS, write_artefact
from benchmarks.machine import PACKAGES, describe_machine
from benchmarks.runtimes import load, take_turn
from benchmarks.turns import alternating

if TYPE_CHECKING:
    from vit_keras.config import ViTConfig

THREADS = (1, 2)
SIZES = ("vit_ti16", "vit_s16", "vit_s14", "vit_b16", "fashion_mini", "fashion_mini_plain")
PEERS = ("timm", "torch", "litert-torch", "tf2onnx", "onnxruntime", "openvino")
Executor = concurrent.futures.ProcessPoolExecutor


class Contestant(NamedTuple):
    """An artefact in one of its runtimes, keys of ARTEFACTS and of RUNTIMES."""

    artefact: str
    runtime: str


class Written(NamedTuple):
    """An artefact's path and its Keras model's logits for random pixels, (COMPARED, classes)."""

    path: pathlib.Path
    logits: np.ndarray


REFERENCE = Contestant(OURS, "LiteRT")


def main() -> None:
    """Measures the sizes and prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.latency")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["vit_ti16", "vit_s16"])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant")
    parser.add_argument("--runs", type=int, default=10, help="images of a turn")
    arguments = parser.parse_args()

    rows, missing = [], []
    for name in arguments.sizes:
        compared, reasons = compare(size(name), arguments.rounds, arguments.runs)
        rows += [{"size": name, **row} for row in compared]
        missing += [f"{name}, {who} is missing: {why}" for who, why in reasons.items()]
    turns = f"{arguments.rounds} rounds of {arguments.runs} images"
    print(f"{describe_machine(*PACKAGES, *PEERS)}; medians of {turns}\n")
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))
    print("\n".join(["", *missing]))


def size(name: str) -> "ViTConfig":
    """Returns the config of a name in SIZES."""
    from benchmarks.peers import default_config
    from vit_keras.variants import resolve_config

    if name == "fashion_mini":
        return default_config()  # with shifted patches, which peers do not have
    if name == "fashion_mini_plain":
        return default_config(stem="patches")
    return resolve_config("vit_s16", patch_size=14) if name == "vit_s14" else resolve_config(name)


def compare(
    config: "ViTConfig", rounds: int, runs: int
) -> tuple[list[dict[str, Any]], dict[str, Exception]]:
    """Measures the contestants of a size.

    Returns:
        a dict for each row of the table, and {what is missing: why}
    """
    rows: dict[Contestant, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        artefacts, missing = write_all(config, pathlib.Path(folder))
        for threads in THREADS:
            with contextlib.ExitStack() as stack:
                workers, differences, reasons = load_all(artefacts, threads, config, stack)
                milliseconds = measure(workers, rounds, runs)
            missing |= reasons
            for contestant, times in milliseconds.items():
                if contestant not in rows:
                    rows[contestant] = _about(contestant, artefacts[contestant.artefact].path)
                rows[contestant]["max difference"] = f"{differences[contestant]:.1e}"
                rows[contestant] |= _latencies(threads, times, milliseconds[REFERENCE])
    return list(rows.values()), missing


def write_all(
    config: "ViTConfig", folder: pathlib.Path
) -> tuple[dict[str, Written], dict[str, Exception]]:
    """Writes all artefacts; returns them by name, and {what could not be written: why}."""
    from vit_keras.utils.errors import InputError

    artefacts: dict[str, Written] = {}
    missing: dict[str, Exception] = {}
    fields = config.to_fields()  # a process without Keras can unpickle these, but no ViTConfig
    for number, (name, artefact) in enumerate(ARTEFACTS.items()):
        print(f"writing {name}", file=sys.stderr)
        os.environ["KERAS_BACKEND"] = artefact.backend  # for the worker
        own = folder / str(number)
        own.mkdir()
        with _process() as worker:
            try:
                writing = worker.submit(write_artefact, artefact, fields, own)
                artefacts[name] = Written(*writing.result())
            except (ImportError, InputError) as error:
                missing[name] = error
    return artefacts, missing


def load_all(
    artefacts: dict[str, Written],
    threads: int,
    config: "ViTConfig",
    stack: contextlib.ExitStack,
) -> tuple[dict[Contestant, Executor], dict[Contestant, float], dict[str, Exception]]:
    """Loads every artefact in each of its runtimes.

    Returns:
        {contestant: the process that holds it}, {contestant: its largest difference from its
        model} and {what could not be loaded: why}
    """
    from vit_keras.config import as_image_size

    shape = (*as_image_size(config.image_size), config.channels)
    workers: dict[Contestant, Executor] = {}
    differences: dict[Contestant, float] = {}
    missing: dict[str, Exception] = {}
    for contestant in _contestants(artefacts):
        name, runtime = contestant
        print(f"loading {name} in {runtime}, {threads} threads", file=sys.stderr)
        worker = stack.enter_context(_process())
        path, logits = artefacts[name]
        loading = worker.submit(load, runtime, path, threads, shape, logits)
        try:
            differences[contestant] = loading.result()
            workers[contestant] = worker
        except ImportError as error:
            missing[f"{name} in {runtime}"] = error
    return workers, differences, missing


def measure(
    workers: dict[Contestant, Executor], rounds: int, runs: int
) -> dict[Contestant, np.ndarray]:
    """Lets the contestants take turns; returns milliseconds (rounds, 2): wall clock, CPU time."""
    milliseconds: dict[Contestant, list[np.ndarray]] = {key: [] for key in workers}
    for number in range(rounds):
        for key in alternating(workers, number):
            milliseconds[key].append(workers[key].submit(take_turn, runs).result())
    return {key: np.array(values) for key, values in milliseconds.items()}


def _contestants(artefacts: dict[str, Written]) -> Iterator[Contestant]:
    for name in artefacts:
        for runtime in ARTEFACTS[name].runtimes:
            yield Contestant(name, runtime)


def _process() -> Executor:
    """Returns an executor of one fresh process; its standard output goes to standard error."""
    spawn = multiprocessing.get_context("spawn")
    return Executor(1, spawn, initializer=os.dup2, initargs=(2, 1))


def count_operations(path: pathlib.Path) -> int | None:
    """Counts the operations in the graph of a .tflite or .onnx file; None for other files."""
    if path.suffix == ".tflite":
        from export.tflite.flatbuffer import count_operations as count
    elif path.suffix == ".onnx":
        from export.onnx.operations import count_operations as count
    else:
        return None
    return sum(count(path).values())


def _about(contestant: Contestant, path: pathlib.Path) -> dict[str, Any]:
    """The columns of a row that do not depend on the number of threads."""
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    return {
        "file": contestant.artefact,
        "runtime": contestant.runtime,
        "MB": f"{sum(file.stat().st_size for file in files) / 1e6:.1f}",
        "operations": count_operations(path),
    }


def _latencies(threads: int, milliseconds: np.ndarray, reference: np.ndarray) -> dict[str, str]:
    """The columns of a row for a number of threads; milliseconds are (rounds, 2)."""
    wall, cpu = np.median(milliseconds, axis=0)
    wall_ratio, cpu_ratio = np.median(milliseconds / reference, axis=0)
    label = "1 thread" if threads == 1 else f"{threads} threads"
    return {
        f"ms (CPU), {label}": f"{wall:.2f} ({cpu:.2f})",
        f"peer / ours (CPU), {label}": f"{wall_ratio:.2f} ({cpu_ratio:.2f})",
    }


if __name__ == "__main__":
    main()
