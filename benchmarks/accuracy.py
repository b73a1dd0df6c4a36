"""fashion_mini -> a Markdown table: test accuracy after some seconds of training on all cores.

python -m benchmarks.accuracy
python -m benchmarks.accuracy --seconds 60 --seeds 3

The clock starts when a contestant's first training step is finished: tracing and compiling are
not counted. This project runs its recipe whole, as `python -m training fit fashion_mini` does,
and its time includes validations and checkpoints; it is marked where it took longer than it may.
The peers are stopped when the time is over. They train on all 6,000 images and validate never,
while the recipe keeps a tenth of the images for its validations.
"""

import argparse
import contextlib
import dataclasses
import math
import pathlib
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from tabulate import tabulate

from benchmarks.machine import describe_machine
from benchmarks.peers import keras_hub_vit, keras_io_published
from training.datasets import find_splits
from training.fit import fit
from training.recipe import load_recipe
from vit_keras.config import ViTConfig

RECIPE = "fashion_mini"


@dataclasses.dataclass(frozen=True)
class Result:
    """One contestant's run with one seed.

    Attributes:
        accuracy: fraction of the 1,000 test images.
        epochs: passes over the training images.
        wall, cpu: seconds since the first finished step.
    """

    accuracy: float
    epochs: float
    wall: float
    cpu: float


class Clock(keras.callbacks.Callback):
    """Times a training from its first finished step on, and stops it after `limit` seconds."""

    def __init__(self, limit=math.inf):
        super().__init__()
        self.limit = limit
        self.start = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.epochs = self.epoch + (batch + 1) / self.params["steps"]
        if self.start is None:
            self.start = time.perf_counter(), time.process_time()
        if time.perf_counter() - self.start[0] >= self.limit:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self.wall = time.perf_counter() - self.start[0]
        self.cpu = time.process_time() - self.start[1]

    def result(self, accuracy):
        return Result(accuracy, self.epochs, self.wall, self.cpu)


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.accuracy")
    parser.add_argument("--seconds", type=float, default=120, help="of training; 120 by default")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each contestant")
    arguments = parser.parse_args()

    results = {name: [] for name in CONTESTANTS}
    for seed in range(arguments.seeds):
        for name, run in CONTESTANTS.items():
            keras.utils.clear_session()
            keras.utils.set_random_seed(seed)
            results[name].append(run(seed, arguments.seconds))
            print(f"{name}, seed {seed}: {results[name][-1]}", file=sys.stderr, flush=True)
    rows = [_row(name, runs, arguments.seconds) for name, runs in results.items()]
    print(f"{describe_machine()}; {arguments.seconds:g} seconds, {arguments.seeds} seed(s)\n")
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


def run_ours(seed, seconds):
    """The default recipe, whole, however many seconds that takes."""
    clock = Clock()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(sys.stderr),
    ):
        run = pathlib.Path(folder, "run")
        evaluation = fit(load_recipe(RECIPE, [f"seed={seed}"]), run, callbacks=[clock])
    return clock.result(evaluation["accuracy"])


def run_keras_hub(seed, seconds):
    """KerasHub's ViT as its defaults have it: [CLS] token, no augmentation, constant rate."""
    config = ViTConfig(28, 1, 4, width=128, depth=6, heads=4, mlp_width=512, num_classes=10)
    model = keras_hub_vit(config)
    model.compile(keras.optimizers.AdamW(1e-3))
    return _fit_peer(model, 128, seconds, lambda images: images / np.float32(127.5) - 1)


def run_keras_io(seed, seconds):
    """The model and recipe of keras.io's example, as published."""
    images = _examples("train").pixels
    model = keras_io_published(images, num_classes=10)
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    return _fit_peer(model, 256, seconds, lambda images: images.astype("float32"))


CONTESTANTS = {
    f"vit-keras-edge, recipe {RECIPE}": run_ours,
    "KerasHub ViT": run_keras_hub,
    "keras.io example, as published": run_keras_io,
}


def _fit_peer(model, batch_size, seconds, prepare):
    """Trains a compiled model until the time is over -> Result; `prepare` makes its input."""
    train, test = _examples("train"), _examples("test")
    batches = tf.data.Dataset.from_tensor_slices((prepare(train.pixels), train.labels))
    batches = batches.shuffle(len(train)).batch(batch_size).prefetch(tf.data.AUTOTUNE)
    clock = Clock(seconds)
    model.fit(batches, epochs=1_000_000, callbacks=[clock], shuffle=False, verbose=0)
    logits = model.predict(prepare(test.pixels), batch_size=batch_size, verbose=0)
    return clock.result(float((logits.argmax(axis=1) == test.labels).mean()))


def _examples(split):
    return find_splits("fashion_mini", channels=1)[split]()


def _row(name, runs, seconds):
    accuracies = [run.accuracy for run in runs]
    spread = f" ({min(accuracies):.1%} to {max(accuracies):.1%})" if len(runs) > 1 else ""
    wall = [run.wall for run in runs]
    # A peer is stopped after the step in which its time ends.
    over = " (too long)" if max(wall) > seconds and name.startswith("vit-keras-edge") else ""
    return {
        "contestant": name,
        "test accuracy": f"{np.mean(accuracies):.1%}{spread}",
        "epochs": f"{np.mean([run.epochs for run in runs]):.1f}",
        "wall seconds": f"{np.mean(wall):.0f}{over}",
        "CPU seconds": f"{np.mean([run.cpu for run in runs]):.0f}",
    }


if __name__ == "__main__":
    main()
