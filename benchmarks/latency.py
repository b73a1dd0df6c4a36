"""Model sizes -> a Markdown table: latency of exported files in their runtimes, ours and peers'.

python -m benchmarks.latency
python -m benchmarks.latency --sizes vit_b16 --rounds 5 --runs 3

Every artefact is written, and then held by each of its runtimes, in a process of its own: neither
packages nor thread pools meet. All are loaded and compared with the model they are made of, and
then take turns, one at work while the others wait.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import sys
import tempfile

import numpy as np
from tabulate import tabulate

# Not Keras: the processes import this file, too, and each is to have its own backend or none.
from benchmarks.artefacts import ARTEFACTS, OURS, write_artefact
from benchmarks.machine import PACKAGES, describe_machine
from benchmarks.runtimes import count_operations, load, take_turn

REFERENCE = (OURS, "LiteRT")
THREADS = (1, 2)
SIZES = ("vit_ti16", "vit_s16", "vit_s14", "vit_b16", "fashion_mini", "fashion_mini_plain")
PEERS = ("timm", "torch", "litert-torch", "tf2onnx", "onnxruntime", "openvino")


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.latency")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["vit_ti16", "vit_s16"])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant")
    parser.add_argument("--runs", type=int, default=10, help="images of a turn")
    arguments = parser.parse_args()

    rows, missing = [], []
    for name in arguments.sizes:
        compared, left_out = compare(size(name), arguments.rounds, arguments.runs)
        rows += [{"size": name, **row} for row in compared]
        missing += [f"{name}, {who} is missing: {why}" for who, why in left_out.items()]
    turns = f"{arguments.rounds} rounds of {arguments.runs} images"
    print(f"{describe_machine(*PACKAGES, *PEERS)}; medians of {turns}\n")
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))
    print("\n".join(["", *missing]))


def size(name):
    """A name of SIZES -> ViTConfig"""
    from benchmarks.peers import default_config
    from vit_keras.variants import resolve_config

    if name == "fashion_mini":
        return default_config()  # with shifted patches, which peers do not have
    if name == "fashion_mini_plain":
        return default_config(stem="patches")
    return resolve_config("vit_s16", patch_size=14) if name == "vit_s14" else resolve_config(name)


def compare(config, rounds, runs):
    """Measures the contestants of a size -> a dict for each row of the table; {left out: why}"""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        artefacts, missing = write_all(config, pathlib.Path(folder))
        for threads in THREADS:
            with contextlib.ExitStack() as stack:
                workers, differences, left_out = load_all(artefacts, threads, config, stack)
                milliseconds = measure(workers, rounds, runs)
            missing |= left_out
            for (name, runtime), times in milliseconds.items():
                row = rows.setdefault((name, runtime), _about(name, runtime, artefacts[name][0]))
                row["max difference"] = f"{differences[name, runtime]:.1e}"
                row |= _latencies(threads, times, milliseconds[REFERENCE])
    return list(rows.values()), missing


def write_all(config, folder):
    """-> {name: (path, logits of its model)}, {name: why it could not be written}"""
    from vit_keras.utils.errors import InputError

    artefacts, missing = {}, {}
    fields = dataclasses.asdict(config)  # unlike a config they arrive where Keras cannot load
    for number, (name, artefact) in enumerate(ARTEFACTS.items()):
        print(f"writing {name}", file=sys.stderr)
        os.environ["KERAS_BACKEND"] = artefact.backend  # for the process
        own = folder / str(number)
        own.mkdir()
        with _process() as worker:
            try:
                artefacts[name] = worker.submit(write_artefact, artefact, fields, own).result()
            except (ImportError, InputError) as error:
                missing[name] = error
    return artefacts, missing


def load_all(artefacts, threads, config, stack):
    """-> {contestant: process that holds it}, {contestant: difference}, {contestant: why not}

    A contestant is (name of its artefact, name of its runtime).
    """
    shape = (*config.image_size, config.channels)
    workers, differences, missing = {}, {}, {}
    for name, (path, logits) in artefacts.items():
        for runtime in ARTEFACTS[name].runtimes:
            print(f"loading {name} in {runtime}, {threads} threads", file=sys.stderr)
            worker = stack.enter_context(_process())
            loading = worker.submit(load, runtime, path, threads, shape, logits)
            try:
                differences[name, runtime] = loading.result()
                workers[name, runtime] = worker
            except ImportError as error:
                missing[f"{name} in {runtime}"] = error
    return workers, differences, missing


def measure(workers, rounds, runs):
    """Turns of all contestants -> {contestant: milliseconds (rounds, 2): wall clock, CPU}"""
    milliseconds = {key: [] for key in workers}
    for number in range(rounds):
        # There and back again: nobody always comes after the same one.
        for key in list(workers)[:: -1 if number % 2 else 1]:
            milliseconds[key].append(workers[key].submit(take_turn, runs).result())
    return {key: np.array(values) for key, values in milliseconds.items()}


def _process():
    """Executor of a fresh process, whose standard output, chatter of converters, is the error's"""
    spawn = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(1, spawn, initializer=os.dup2, initargs=(2, 1))


def _about(name, runtime, path):
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    return {
        "file": name,
        "runtime": runtime,
        "MB": f"{sum(file.stat().st_size for file in files) / 1e6:.1f}",
        "operations": count_operations(path),
    }


def _latencies(threads, milliseconds, reference):
    (wall, cpu), ratios = (
        np.median(milliseconds, axis=0),
        np.median(milliseconds / reference, axis=0),
    )
    label = "1 thread" if threads == 1 else f"{threads} threads"
    return {
        f"ms (CPU), {label}": f"{wall:.2f} ({cpu:.2f})",
        f"peer / ours (CPU), {label}": f"{ratios[0]:.2f} ({ratios[1]:.2f})",
    }


if __name__ == "__main__":
    main()
