"""A recipe and its peers, each for the same time -> table and picture: accuracy against time.

python -m benchmarks.accuracy
python -m benchmarks.accuracy --recipe fashion_mnist --seconds 1200 --seeds 3 --out results
python -m benchmarks.accuracy --recipe cifar10 --data FOLDER --seconds 7200 --seeds 3 --out results

Contestants take turns, seed by seed. This project runs its recipe whole, as `python -m training
fit` does, and is marked where that took too long. The peers are stopped when the time is over; they
train on the same images, validate on the same images now and then, and are given that time back.
Test images are looked at once, at the end of each run.

Time is the process's CPU time, from the first finished step on: 1,200 seconds are ten minutes of
two busy cores. Tracing and compiling the first step are not counted, nor what other programs do.
With --out every run is written to a file of its own, finished ones are not run again, and a picture
is drawn.
"""

import argparse
import contextlib
import json
import math
import pathlib
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tabulate import tabulate

from benchmarks.machine import describe_machine
from benchmarks.peers import keras_hub_vit, keras_io_published
from training.data.preload import read_all
from training.data.splits import load_splits
from training.fit import fit
from training.recipe import load_recipe
from vit_keras.config import ViTConfig
from vit_keras.utils.files import write_json

VALIDATIONS = 15  # of a peer


class Clock(keras.callbacks.Callback):
    """Times a training from its first finished step on, and stops it after `limit` CPU seconds.

    Attributes:
        curve: [(seconds, validation accuracy), ...]
        seconds, wall: at the end of training.
        epochs: passes over the training images.
    """

    def __init__(self, limit=math.inf, validate=None):
        super().__init__()
        self.limit = limit
        self.validate = validate
        self.start = None
        self.curve = []
        self.paused = np.zeros(2)  # seconds, wall

    def now(self):
        return np.array([time.process_time(), time.perf_counter()])

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.epochs = self.epoch + (batch + 1) / self.params["steps"]
        if self.start is None:
            self.start = self.now()
        seconds, _ = self.elapsed()
        due = len(self.curve) + 1 if self.validate else math.inf
        if seconds >= min(due * self.limit / VALIDATIONS, self.limit):
            before = self.now()
            self.curve.append((seconds, self.validate()))
            self.paused += self.now() - before
        if seconds >= self.limit:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        if "val_accuracy" in (logs or {}):
            self.curve.append((self.elapsed()[0], logs["val_accuracy"]))

    def on_train_end(self, logs=None):
        self.seconds, self.wall = self.elapsed()

    def elapsed(self):
        return (self.now() - self.start - self.paused).tolist()

    def result(self, accuracy):
        return {
            "accuracy": accuracy,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "wall": self.wall,
            "curve": self.curve,
        }


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.accuracy")
    parser.add_argument("--recipe", default="fashion_mini", help="fashion_mini by default")
    parser.add_argument("--data", help="as for `python -m training fit`; the recipe's by default")
    parser.add_argument("--seconds", type=float, default=240, help="of CPU time; 240 by default")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each contestant")
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--out", type=pathlib.Path, help="folder that keeps every run")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or pathlib.Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        for seed in range(arguments.seeds):
            for name in arguments.contestants:
                file = out / f"{arguments.recipe}-{arguments.seconds:g}s-{name}-{seed}.json"
                if file.exists():
                    continue
                overrides = [f"seed={seed}", *([f"data={arguments.data}"] * bool(arguments.data))]
                keras.utils.clear_session()
                keras.utils.set_random_seed(seed)
                with contextlib.redirect_stdout(sys.stderr):
                    run = CONTESTANTS[name](
                        load_recipe(arguments.recipe, overrides), arguments.seconds
                    )
                write_json(file, run | {"machine": describe_machine()})
        runs = {
            name: [json.loads(file.read_text()) for file in sorted(out.glob(pattern))]
            for name in CONTESTANTS
            for pattern in [f"{arguments.recipe}-{arguments.seconds:g}s-{name}-*.json"]
        }
        runs = {name: found for name, found in runs.items() if found}
        curves(runs).savefig(out / f"{arguments.recipe}-{arguments.seconds:g}s.svg")
    print(f"{describe_machine()}; recipe {arguments.recipe}, {arguments.seconds:g} CPU seconds\n")
    rows = [_row(name, found, arguments.seconds) for name, found in runs.items()]
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


def curves(runs):
    """{contestant: [result, ...]} -> Figure: validation accuracy against seconds, a line a seed"""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, found) in enumerate(runs.items()):
        for run in found:
            seconds, accuracies = zip(*run["curve"], strict=True)
            label = TITLES[name] if run is found[0] else None
            axes.plot(
                np.divide(seconds, 60), np.multiply(accuracies, 100), f"C{number}", label=label
            )
    axes.set(xlabel="CPU minutes", ylabel="validation accuracy, %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(runs))
    return figure


def run_ours(recipe, seconds):
    """The recipe, whole, however many seconds that takes."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        evaluation = fit(recipe, pathlib.Path(folder, "run"), callbacks=[clock])
    return clock.result(evaluation["accuracy"])


def run_keras_hub(recipe, seconds):
    """KerasHub's ViT as its defaults have it: [CLS] token, no augmentation, constant rate."""

    def build(pixels):
        size = {"width": 128, "depth": 6, "heads": 4, "mlp_width": 512}
        config = ViTConfig(pixels.shape[1:3], recipe.channels, 4, num_classes=10, **size)
        model = keras_hub_vit(config)
        model.compile(keras.optimizers.AdamW(1e-3), metrics=["accuracy"])
        return model

    return _fit_peer(recipe, build, 128, seconds, lambda images: images / np.float32(127.5) - 1)


def run_keras_io(recipe, seconds):
    """The model and recipe of keras.io's example, as published."""

    def build(pixels):
        model = keras_io_published(pixels, num_classes=10)
        model.compile(
            keras.optimizers.AdamW(1e-3, weight_decay=1e-4),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model

    return _fit_peer(recipe, build, 256, seconds, lambda images: images.astype("float32"))


CONTESTANTS = {"ours": run_ours, "keras_hub": run_keras_hub, "keras_io": run_keras_io}
TITLES = {
    "ours": "this project",
    "keras_hub": "KerasHub's ViT, AdamW",
    "keras_io": "keras.io's example, as published",
}


def _fit_peer(recipe, build, batch_size, seconds, prepare):
    """Trains until the time is over what `build` makes, compiled, for the training pixels.

    `prepare` makes the model's input of pixels.
    """
    splits = {name: read_all(found, 4096)[0] for name, found in load_splits(recipe).items()}
    pixels = {name: found.pixels.numpy() for name, found in splits.items()}
    inputs = {name: prepare(found) for name, found in pixels.items()}
    labels = {name: found.labels for name, found in splits.items()}
    model = build(pixels["train"])

    def accuracy(split):
        logits = model.predict(inputs[split], batch_size=batch_size, verbose=0)
        return float((logits.argmax(axis=1) == labels[split]).mean())

    batches = tf.data.Dataset.from_tensor_slices((inputs["train"], labels["train"]))
    batches = batches.shuffle(len(labels["train"])).batch(batch_size).prefetch(tf.data.AUTOTUNE)
    clock = Clock(seconds, lambda: accuracy("validation"))
    model.fit(batches, epochs=1_000_000, callbacks=[clock], shuffle=False, verbose=0)
    return clock.result(accuracy("test"))


def _row(name, runs, seconds):
    accuracies = [run["accuracy"] for run in runs]
    spread = f" ({min(accuracies):.1%} to {max(accuracies):.1%})" if len(runs) > 1 else ""
    longest = max(run["seconds"] for run in runs)
    # A peer is stopped after the step in which its time ends.
    over = " (too long)" if longest > seconds and name == "ours" else ""
    return {
        "contestant": TITLES[name],
        "test accuracy": f"{np.mean(accuracies):.1%}{spread}",
        "runs": len(runs),
        "epochs": f"{np.mean([run['epochs'] for run in runs]):.1f}",
        "CPU seconds": f"{np.mean([run['seconds'] for run in runs]):.0f}{over}",
        "wall seconds": f"{np.mean([run['wall'] for run in runs]):.0f}",
    }


if __name__ == "__main__":
    main()
