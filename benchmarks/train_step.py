"""Model sizes -> a Markdown table: time of a training step, this project's and its peers'.

python -m benchmarks.train_step
python -m benchmarks.train_step --sizes vit_mini4 --rounds 2 --steps 3

Each contestant runs `model.fit` with AdamW on one batch of random images that stays in memory, with
XLA and without. All contestants of a size are built and warmed up first, then take turns, so that
other load on the machine affects all of them. All average their tokens, use plain patches and have
no dropout: only then do they compute the same thing.
"""

import argparse
import dataclasses
import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tabulate import tabulate

from benchmarks.machine import describe_machine
from benchmarks.peers import BUILDERS, OURS, default_config
from benchmarks.turns import alternating
from training.recipes.fashion_mini import RECIPE
from vit_keras.config import ViTConfig, as_image_size
from vit_keras.variants import resolve_config

WARM_UP_STEPS = 2
COMMON: dict[str, Any] = {
    "pooling": "mean",
    "stem": "patches",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "stochastic_depth": 0.0,
}
Key = tuple[bool, str]  # a contestant: whether XLA compiles it, its name


@dataclasses.dataclass(frozen=True)
class Size:
    """A row of SIZES.

    Attributes:
        config: ViTConfig.
        batch_size: images per step.
        steps: of one contestant's turn; enough for about two seconds.
    """

    config: ViTConfig
    batch_size: int
    steps: int


SIZES = {
    "vit_ti16": Size(resolve_config("vit_ti16", **COMMON), batch_size=8, steps=3),
    "vit_mini4": Size(resolve_config("vit_mini4", **COMMON), batch_size=64, steps=3),
    "fashion_mini": Size(
        default_config(**COMMON), batch_size=RECIPE.optimization.batch_size, steps=8
    ),
}


def main() -> None:
    """Times the contestants of each size and prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.train_step")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--steps", type=int, help="of a turn; by default those of SIZES")
    arguments = parser.parse_args()

    rows = []
    for name in arguments.sizes:
        size = SIZES[name]
        size = dataclasses.replace(size, steps=arguments.steps or size.steps)
        print(f"{name}, {size}", file=sys.stderr)
        rows += [{"size": name, **row} for row in compare(size, arguments.rounds)]
        keras.utils.clear_session()
    print(f"{describe_machine()}; medians of {arguments.rounds} rounds\n")
    print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".2f"))


def compare(size: Size, rounds: int) -> list[dict[str, Any]]:
    """Times all contestants of a size; returns a dict for each row of the table."""
    batches = random_batches(size)
    models = {
        (jit_compile, name): warmed_up(build(size.config), batches, jit_compile)
        for jit_compile in (False, True)
        for name, build in BUILDERS.items()
    }
    seconds: dict[Key, list[tuple[float, float]]] = {key: [] for key in models}
    for number in range(rounds):
        for key in alternating(models, number):
            seconds[key].append(time_fit(models[key], batches))
    milliseconds = {  # per image, (rounds, 2): CPU and wall clock
        key: 1000 * np.array(values) / (size.steps * size.batch_size)
        for key, values in seconds.items()
    }
    return [_row(key, models[key], milliseconds[key], milliseconds[key[0], OURS]) for key in models]


def random_batches(size: Size) -> tf.data.Dataset:
    """Returns a dataset that gives the same normalised images and labels `size.steps` times."""
    random = np.random.default_rng(0)
    shape = (size.batch_size, *as_image_size(size.config.image_size), size.config.channels)
    images = random.uniform(-1, 1, shape).astype("float32")
    labels = random.integers(size.config.num_classes, size=size.batch_size)
    return tf.data.Dataset.from_tensors((images, labels)).repeat(size.steps)


def warmed_up(model: keras.Model, batches: tf.data.Dataset, jit_compile: bool) -> keras.Model:
    """Compiles the model and runs the steps in which it is traced and compiled by XLA."""
    model.compile(
        keras.optimizers.AdamW(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[],
        jit_compile=jit_compile,
    )
    model.fit(batches.take(WARM_UP_STEPS), shuffle=False, verbose=0)
    return model


def time_fit(model: keras.Model, batches: tf.data.Dataset) -> tuple[float, float]:
    """Trains one epoch; returns its CPU seconds and its wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    model.fit(batches, shuffle=False, verbose=0)
    return time.process_time() - cpu, time.perf_counter() - wall


def _row(
    key: Key, model: keras.Model, milliseconds: np.ndarray, ours: np.ndarray
) -> dict[str, Any]:
    """A row of the table; milliseconds are (rounds, 2), this contestant's and this project's."""
    jit_compile, name = key
    cpu, wall = np.median(milliseconds, axis=0)
    cpu_ratio, wall_ratio = np.median(milliseconds / ours, axis=0)
    return {
        "XLA": "yes" if jit_compile else "no",
        "contestant": name,
        "parameters (M)": model.count_params() / 1e6,
        "CPU ms / image": cpu,
        "wall ms / image": wall,
        "CPU, peer / ours": cpu_ratio,
        "wall, peer / ours": wall_ratio,
    }


if __name__ == "__main__":
    main()
