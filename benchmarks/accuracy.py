"""A recipe and its peers, each for the same time -> table and picture: accuracy against time.

python -m benchmarks.accuracy
python -m benchmarks.accuracy --recipe fashion_mnist --seconds 1200 --seeds 3 --out results
python -m benchmarks.accuracy --recipe cifar10 --data FOLDER --seconds 7200 --seeds 3 --out results

The contestants run one after another, seed by seed. This project runs its whole recipe, as `python
-m training fit` does, and is marked if that took too long. A peer trains on the same images,
validates on the same images at equal intervals, and stops when the time is over; its validations
are not counted. The test images are used once, at the end of each run.

Time is the CPU time of the process from the first finished step on: 1,200 seconds are ten minutes
of two busy cores. Tracing and compiling the first step are not counted, and neither is what other
programs do. With --out every run is written to its own file, finished runs are not repeated, and a
picture is drawn.
"""

import argparse
import contextlib
import json
import math
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tabulate import tabulate

from benchmarks.clock import Clock
from benchmarks.machine import describe_machine
from benchmarks.peers import keras_hub_vit, keras_io_published
from training.data.examples import Examples
from training.data.preload import decode_all
from training.data.splits import load_splits
from training.fit import fit
from training.recipe import Recipe, load_recipe
from vit_keras.config import ViTConfig
from vit_keras.utils.files import write_json

Result = dict[str, Any]  # what Clock.result returns


def main() -> None:
    """Runs the contestants and prints the table."""
    arguments = _parser().parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or pathlib.Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        for seed in range(arguments.seeds):
            for name in arguments.contestants:
                file = out / f"{_stem(arguments)}-{name}-{seed}.json"
                if not file.exists():
                    result = run(name, seed, arguments)
                    write_json(file, result | {"machine": describe_machine()})
        results = read_results(out, _stem(arguments))
        curves(results).savefig(out / f"{_stem(arguments)}.svg")
    print(f"{describe_machine()}; recipe {arguments.recipe}, {arguments.seconds:g} CPU seconds\n")
    rows = [_row(name, runs, arguments.seconds) for name, runs in results.items()]
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.accuracy")
    parser.add_argument("--recipe", default="fashion_mini", help="fashion_mini by default")
    parser.add_argument("--data", help="as for `python -m training fit`; the recipe's by default")
    parser.add_argument("--seconds", type=float, default=240, help="CPU seconds; 240 by default")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each contestant")
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--out", type=pathlib.Path, help="folder that keeps every run")
    return parser


def _stem(arguments: argparse.Namespace) -> str:
    """Start of the names of the files of a call."""
    return f"{arguments.recipe}-{arguments.seconds:g}s"


def run(name: str, seed: int, arguments: argparse.Namespace) -> Result:
    """Trains a contestant with a seed; what it prints goes to standard error."""
    overrides = [f"seed={seed}"]
    if arguments.data:
        overrides.append(f"dataset={arguments.data}")
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    with contextlib.redirect_stdout(sys.stderr):
        return CONTESTANTS[name](load_recipe(arguments.recipe, overrides), arguments.seconds)


def read_results(folder: pathlib.Path, stem: str) -> dict[str, list[Result]]:
    """Reads {contestant: the results of its seeds} from a folder, without missing contestants."""
    results = {}
    for name in CONTESTANTS:
        files = sorted(folder.glob(f"{stem}-{name}-*.json"))
        if files:
            results[name] = [json.loads(file.read_text()) for file in files]
    return results


def curves(results: dict[str, list[Result]]) -> Figure:
    """Draws validation accuracy against CPU minutes, one line per seed."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, runs) in enumerate(results.items()):
        for seed, result in enumerate(runs):
            seconds, accuracies = zip(*result["curve"], strict=True)
            label = None if seed else TITLES[name]
            minutes, percent = np.divide(seconds, 60), np.multiply(accuracies, 100)
            axes.plot(minutes, percent, f"C{number}", label=label)
    axes.set(xlabel="CPU minutes", ylabel="validation accuracy, %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(results))
    return figure


def run_ours(recipe: Recipe, seconds: float) -> Result:
    """Trains this project's recipe to its end, even if that takes more than `seconds`."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        evaluation = fit(recipe, pathlib.Path(folder, "run"), callbacks=[clock])
    return clock.result((evaluation or {}).get("accuracy", math.nan))


def run_keras_hub(recipe: Recipe, seconds: float) -> Result:
    """Trains KerasHub's ViT with its defaults: [CLS] token, no augmentation, constant rate."""

    def build(pixels: np.ndarray) -> keras.Model:
        size = {"width": 128, "depth": 6, "heads": 4, "mlp_width": 512}
        config = ViTConfig.from_fields(
            image_size=pixels.shape[1:3],
            channels=recipe.model.channels,
            patch_size=4,
            num_classes=10,
            **size,
        )
        model = keras_hub_vit(config)
        model.compile(keras.optimizers.AdamW(1e-3), metrics=["accuracy"])
        return model

    return _fit_peer(recipe, build, 128, seconds, lambda images: images / np.float32(127.5) - 1)


def run_keras_io(recipe: Recipe, seconds: float) -> Result:
    """Trains the model of keras.io's example with its published recipe."""

    def build(pixels: np.ndarray) -> keras.Model:
        model = keras_io_published(pixels, num_classes=10)
        model.compile(
            keras.optimizers.AdamW(1e-3, weight_decay=1e-4),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model

    return _fit_peer(recipe, build, 256, seconds, lambda images: images.astype("float32"))


CONTESTANTS: dict[str, Callable[[Recipe, float], Result]] = {
    "ours": run_ours,
    "keras_hub": run_keras_hub,
    "keras_io": run_keras_io,
}
TITLES = {
    "ours": "this project",
    "keras_hub": "KerasHub's ViT, AdamW",
    "keras_io": "keras.io's example, as published",
}


def _fit_peer(
    recipe: Recipe,
    build: Callable[[np.ndarray], keras.Model],
    batch_size: int,
    seconds: float,
    prepare: Callable[[np.ndarray], np.ndarray],
) -> Result:
    """Trains a peer on the recipe's images until the time is over.

    Args:
        recipe: names the images.
        build: training pixels, uint8 (count, height, width, channels) -> a compiled model.
        batch_size: images per step.
        seconds: CPU seconds.
        prepare: pixels -> the model's input.
    """
    splits = load_splits(recipe.data, recipe.model.channels, recipe.execution.seed)
    splits = {name: decode_all(split, 4096)[0] for name, split in splits.items()}
    pixels = {name: pixels_of(split) for name, split in splits.items()}
    inputs = {name: prepare(images) for name, images in pixels.items()}
    labels = {name: split.labels for name, split in splits.items()}
    model = build(pixels["train"])

    def accuracy(split: str) -> float:
        logits = model.predict(inputs[split], batch_size=batch_size, verbose=0)
        return float((logits.argmax(axis=1) == labels[split]).mean())

    batches = tf.data.Dataset.from_tensor_slices((inputs["train"], labels["train"]))
    batches = batches.shuffle(len(labels["train"])).batch(batch_size).prefetch(tf.data.AUTOTUNE)
    clock = Clock(seconds, lambda: accuracy("validation"))
    model.fit(batches, epochs=1_000_000, callbacks=[clock], shuffle=False, verbose=0)
    return clock.result(accuracy("test"))


def pixels_of(examples: Examples) -> np.ndarray:
    """Returns the decoded images, uint8 (count, height, width, channels).

    Raises:
        ValueError: if they have different sizes, or were too large for the memory.
    """
    if examples.pixels is None:
        raise ValueError("the peers need images of one size that fit into memory.")
    return examples.pixels.numpy()


def _row(name: str, runs: list[Result], seconds: float) -> dict[str, Any]:
    """A row of the table."""
    accuracies = [run["accuracy"] for run in runs]
    spread = f" ({min(accuracies):.1%} to {max(accuracies):.1%})" if len(runs) > 1 else ""
    longest = max(run["seconds"] for run in runs)
    # A peer is stopped after the step in which its time ends.
    note = " (too long)" if longest > seconds and name == "ours" else ""
    return {
        "contestant": TITLES[name],
        "test accuracy": f"{np.mean(accuracies):.1%}{spread}",
        "runs": len(runs),
        "epochs": f"{np.mean([run['epochs'] for run in runs]):.1f}",
        "CPU seconds": f"{np.mean([run['seconds'] for run in runs]):.0f}{note}",
        "wall seconds": f"{np.mean([run['wall'] for run in runs]):.0f}",
    }


if __name__ == "__main__":
    main()
