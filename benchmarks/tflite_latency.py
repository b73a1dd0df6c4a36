"""Model sizes -> a Markdown table: latency of .tflite files, this project's and KerasHub's.

python -m benchmarks.tflite_latency
python -m benchmarks.tflite_latency --sizes fashion_mini --rounds 2 --runs 5

Both models go through `export.tflite.write_tflite`, so that both files take a uint8 image, hold
the normalisation and a softmax, and have static shapes. Their biases, norms, tokens and positions
are random like their kernels: the converter leaves out what adds zero or multiplies by one.
"""

import argparse
import pathlib
import sys
import tempfile
import time

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tabulate import tabulate

from benchmarks.machine import describe_machine
from benchmarks.peers import BUILDERS, OURS, default_config
from export.tflite import write_tflite
from vit_keras.preprocessing import Preprocessing
from vit_keras.variants import resolve_config

CONTESTANTS = (OURS, "KerasHub")
THREADS = (1, 2)
COMPARED = 16  # random images on which file and model are compared
SIZES = {
    "vit_ti16": resolve_config("vit_ti16"),
    "fashion_mini": default_config(),  # ours with shifted patches, which the peer does not have
    "fashion_mini_plain": default_config(stem="patches"),
}


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.tflite_latency")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contestant")
    parser.add_argument("--runs", type=int, default=20, help="images of a turn")
    arguments = parser.parse_args()

    rows = []
    for name in arguments.sizes:
        print(f"{name}, {SIZES[name]}", file=sys.stderr)
        compared = compare(SIZES[name], arguments.rounds, arguments.runs)
        rows += [{"size": name, **row} for row in compared]
        keras.utils.clear_session()
    turns = f"{arguments.rounds} rounds of {arguments.runs} images"
    print(f"{describe_machine()}; medians of {turns}\n")
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


def compare(config, rounds, runs):
    """Converts and times the contestants of a size -> a dict for each row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        paths, differences = {}, {}
        for name in CONTESTANTS:
            model = randomised(BUILDERS[name](config))
            paths[name] = pathlib.Path(folder, f"{name}.tflite")
            write_tflite(model, paths[name])
            differences[name] = largest_difference(paths[name], model)
        milliseconds = measure(paths, config, rounds, runs)
        return [
            {
                "contestant": name,
                "size (MB)": f"{paths[name].stat().st_size / 1e6:.2f}",
                "operations": count_operations(paths[name]),
                "max difference": f"{differences[name]:.1e}",
                **_latencies(milliseconds, name),
            }
            for name in CONTESTANTS
        ]


def randomised(model):
    """The model with seeded noise on every weight, and what `write_tflite` asks a ViT for."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(random.normal(scale=0.05, size=weight.shape))
    half = (0.5,) * model.input_shape[-1]
    model.preprocessing = Preprocessing(model.input_shape[1:3], mean=half, std=half)
    model.class_names = ()
    return model


def largest_difference(path, model):
    """The largest difference of a probability between a .tflite file and its Keras model."""
    pixels = random_pixels(COMPARED, model.input_shape[1:])
    classify = Interpreter(str(path)).get_signature_runner()
    got = [classify(images=image[np.newaxis])["probabilities"][0] for image in pixels]
    logits = model.predict(model.preprocessing.normalise(pixels), verbose=0)
    return np.abs(np.stack(got) - keras.ops.convert_to_numpy(keras.ops.softmax(logits))).max()


def measure(paths, config, rounds, runs):
    """Latencies of the files in turn -> {(threads, contestant): milliseconds (rounds,)}"""
    image = random_pixels(1, (*config.image_size, config.channels))
    interpreters = {
        (threads, name): Interpreter(str(path), num_threads=threads)
        for threads in THREADS
        for name, path in paths.items()
    }
    for interpreter in interpreters.values():
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        time_runs(interpreter, 2)  # to warm up
    milliseconds = {key: [] for key in interpreters}
    for number in range(rounds):
        # There and back again: nobody always comes after the same one.
        for key in list(interpreters)[:: -1 if number % 2 else 1]:
            milliseconds[key].append(time_runs(interpreters[key], runs))
    return {key: np.array(values) for key, values in milliseconds.items()}


def time_runs(interpreter, runs):
    """The median milliseconds of some runs in a row."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - start)
    return 1000 * np.median(seconds)


def count_operations(path):
    """How many operations the graph in a .tflite file has."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    return sum(len(graph.operators) for graph in model.subgraphs)


def random_pixels(count, shape):
    """uint8 (count, *shape), the same at every call."""
    return np.random.default_rng(1).integers(256, size=(count, *shape), dtype="uint8")


def _latencies(milliseconds, name):
    cells = {}
    for threads in THREADS:
        own, ours = milliseconds[threads, name], milliseconds[threads, OURS]
        label = "1 thread" if threads == 1 else f"{threads} threads"
        cells[f"ms, {label}"] = f"{np.median(own):.2f}"
        cells[f"{label}, peer / ours"] = f"{np.median(own / ours):.2f}"
    return cells


if __name__ == "__main__":
    main()
