"""Objectives -> a Markdown table: CPU time of a training step of Ti/16 at 224 pixels.

python -m benchmarks.objectives
python -m benchmarks.objectives --rounds 1 --batch-size 2

The same encoder learns to classify, to fill in hidden patches (MAE, SimMIM), and from a teacher of
its own size, which runs in every step or whose answers are cached. The contestants take turns, as
in benchmarks/train_step.py.
"""

import argparse
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tabulate import tabulate

from benchmarks.machine import describe_machine
from benchmarks.train_step import WARM_UP_STEPS, time_fit
from benchmarks.turns import alternating
from vit_keras import DecoderConfig, Distiller, Teacher, build_mae, build_mim, build_vit

VARIANT = "vit_ti16"
CLASSES = 1000
STEPS = 3  # of a turn
# Half as wide as the encoder and a third as deep: the ratios of the paper's decoder to ViT-L.
DECODER = DecoderConfig(width=96, depth=4, heads=3, mlp_width=384)


class Objective(NamedTuple):
    """A row of the table.

    Attributes:
        model: for `fit`.
        inputs: {name: shape without the batch}.
        targets: numbers per image that `fit` gets as targets; 0 for none.
    """

    model: keras.Model
    inputs: dict[str, tuple[int, ...]]
    targets: int


def main() -> None:
    """Times the objectives and prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.objectives")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()

    contestants = {
        name: (_compiled(objective), random_batches(objective, arguments.batch_size))
        for name, objective in objectives().items()
    }
    for model, batches in contestants.values():
        model.fit(batches.take(WARM_UP_STEPS), shuffle=False, verbose=0)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(arguments.rounds):
        for name in alternating(contestants, number):
            seconds[name].append(time_fit(*contestants[name])[0])
    milliseconds = {
        name: 1000 * np.array(values) / (STEPS * arguments.batch_size)
        for name, values in seconds.items()
    }
    rows = [
        {
            "objective": name,
            "CPU ms / image": np.median(values),
            "classes / this": np.median(milliseconds["classes"] / values),
        }
        for name, values in milliseconds.items()
    ]
    print(f"{describe_machine()}; {VARIANT}, medians of {arguments.rounds} rounds\n")
    print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".2f"))


def objectives() -> dict[str, Objective]:
    """Builds the contestants."""
    images: dict[str, tuple[int, ...]] = {"images": (224, 224, 3)}
    student = build_vit("deit_ti16_distilled", num_classes=CLASSES)
    teacher = Teacher(build_vit(VARIANT, num_classes=CLASSES), student)
    mae = build_mae(VARIANT, decoder=DECODER)
    return {
        "classes": Objective(build_vit(VARIANT, num_classes=CLASSES), images, CLASSES),
        "MAE, 75 % hidden": Objective(mae, images | {"noise": (196,)}, 0),
        "SimMIM": Objective(build_mim(VARIANT), images | {"masked": (196,)}, 0),
        "classes and teacher": Objective(Distiller(student, teacher), images, CLASSES),
        "classes and cached teacher": Objective(Distiller(student), images, 2 * CLASSES),
    }


def random_batches(objective: Objective, batch_size: int) -> tf.data.Dataset:
    """Returns a dataset that gives the same random batch STEPS times."""
    random = np.random.default_rng(0)
    arrays = {
        name: random.random((batch_size, *shape), dtype="float32")
        for name, shape in objective.inputs.items()
    }
    if "masked" in arrays:
        arrays["masked"] = arrays["masked"].round()
    if objective.targets:
        probabilities = np.zeros((batch_size, objective.targets), "float32")
        probabilities[:, ::CLASSES] = 1
        return tf.data.Dataset.from_tensors((arrays["images"], probabilities)).repeat(STEPS)
    return tf.data.Dataset.from_tensors(arrays).repeat(STEPS)


def _compiled(objective: Objective) -> keras.Model:
    loss = None
    if objective.targets:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    objective.model.compile(keras.optimizers.AdamW(1e-3), loss, jit_compile=False)
    return objective.model


if __name__ == "__main__":
    main()
