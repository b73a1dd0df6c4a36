"""Model sizes -> a Markdown table: seconds of a training step, this project's and its peers'.

python -m benchmarks.train_step
python -m benchmarks.train_step --sizes vit_mini4 --rounds 2 --steps 3

Each contestant goes through `model.fit` with AdamW on one batch of random images that stays in
memory, compiled by XLA and not. All contestants of a size are built and warmed up first, then
take turns, so that whatever else the machine does meets them alike. They all average their
tokens, shift no patches and drop nothing out, for only then do they compute the same thing.
"""

import argparse
import dataclasses
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from tabulate import tabulate

from benchmarks.machine import describe_machine
from benchmarks.peers import BUILDERS, OURS, default_config
from training.recipes.fashion_mini import RECIPE
from vit_keras.config import ViTConfig
from vit_keras.variants import resolve_config

WARM_UP_STEPS = 2
ALIKE = {
    "pooling": "mean",
    "stem": "patches",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "stochastic_depth": 0.0,
}


@dataclasses.dataclass(frozen=True)
class Size:
    """A row of SIZES.

    Attributes:
        config: ViTConfig.
        batch_size: images a step.
        steps: of one contestant's turn; enough for about two seconds.
    """

    config: ViTConfig
    batch_size: int
    steps: int


SIZES = {
    "vit_ti16": Size(resolve_config("vit_ti16", **ALIKE), batch_size=8, steps=3),
    "vit_mini4": Size(resolve_config("vit_mini4", **ALIKE), batch_size=64, steps=3),
    "fashion_mini": Size(
        default_config(**ALIKE), batch_size=RECIPE.optimization.batch_size, steps=8
    ),
}


def main():
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


def compare(size, rounds):
    """Times all contestants of a size -> a dict for each row of the table."""
    batches = random_batches(size)
    trainers = {
        (jit, name): warmed_up(build(size.config), batches, jit)
        for jit in (False, True)
        for name, build in BUILDERS.items()
    }
    seconds = {key: [] for key in trainers}
    for number in range(rounds):
        # There and back again: nobody always comes after the same one.
        for key in list(trainers)[:: -1 if number % 2 else 1]:
            seconds[key].append(time_fit(trainers[key], batches))
    milliseconds = {  # (rounds, 2): CPU and wall clock, for one image
        key: 1000 * np.array(values) / (size.steps * size.batch_size)
        for key, values in seconds.items()
    }
    return [
        _row(jit, name, trainer, milliseconds[jit, name], milliseconds[jit, OURS])
        for (jit, name), trainer in trainers.items()
    ]


def random_batches(size):
    """tf.data.Dataset of `size.steps` times the same normalised images and labels."""
    random = np.random.default_rng(0)
    shape = (size.batch_size, *size.config.image_size, size.config.channels)
    images = random.uniform(-1, 1, shape).astype("float32")
    labels = random.integers(size.config.num_classes, size=size.batch_size)
    return tf.data.Dataset.from_tensors((images, labels)).repeat(size.steps)


def warmed_up(model, batches, jit):
    """The model, compiled and past the steps which trace and compile it."""
    model.compile(
        keras.optimizers.AdamW(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[],
        jit_compile=jit,
    )
    model.fit(batches.take(WARM_UP_STEPS), shuffle=False, verbose=0)
    return model


def time_fit(model, batches):
    """Seconds of one epoch: (CPU, wall clock)."""
    cpu, wall = time.process_time(), time.perf_counter()
    model.fit(batches, shuffle=False, verbose=0)
    return time.process_time() - cpu, time.perf_counter() - wall


def _row(jit, name, model, milliseconds, ours):
    cpu, wall = np.median(milliseconds, axis=0)
    cpu_ratio, wall_ratio = np.median(milliseconds / ours, axis=0)
    return {
        "XLA": "yes" if jit else "no",
        "contestant": name,
        "parameters (M)": model.count_params() / 1e6,
        "CPU ms / image": cpu,
        "wall ms / image": wall,
        "CPU, peer / ours": cpu_ratio,
        "wall, peer / ours": wall_ratio,
    }


if __name__ == "__main__":
    main()
