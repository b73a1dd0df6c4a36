"""Objectives -> a Markdown table: seconds of a training step of Ti/16 at 224 pixels, by objective.

python -m benchmarks.objectives
python -m benchmarks.objectives --rounds 1 --batch-size 2

The same encoder learns classes, to fill in hidden patches (MAE, SimMIM), and from a teacher of its
own size, which is asked in every step or was asked before. Contestants take turns, as in
benchmarks/train_step.py.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf
from tabulate import tabulate

from benchmarks.machine import describe_machine
from benchmarks.train_step import WARM_UP_STEPS, time_fit
from vit_keras import DecoderConfig, Distiller, Teacher, build_mae, build_mim, build_vit

VARIANT = "vit_ti16"
CLASSES = 1000
STEPS = 3
# As wide and deep, beside the encoder, as the paper's beside ViT-L: half and a third.
DECODER = DecoderConfig(width=96, depth=4, heads=3, mlp_width=384)


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.objectives")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()

    contestants = {
        name: (_compiled(model, targets), _batches(inputs, targets, arguments.batch_size))
        for name, (model, inputs, targets) in objectives().items()
    }
    for model, batches in contestants.values():
        model.fit(batches.take(WARM_UP_STEPS), shuffle=False, verbose=0)
    seconds = {name: [] for name in contestants}
    for number in range(arguments.rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            seconds[name].append(time_fit(*contestants[name])[0])
    milliseconds = {
        name: 1000 * np.array(values) / (STEPS * arguments.batch_size)
        for name, values in seconds.items()
    }
    supervised = milliseconds["classes"]
    rows = [
        {
            "objective": name,
            "CPU ms / image": np.median(values),
            "classes / this": np.median(supervised / values),
        }
        for name, values in milliseconds.items()
    ]
    print(f"{describe_machine()}; {VARIANT}, medians of {arguments.rounds} rounds\n")
    print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".2f"))


def objectives():
    """{name: (model for `fit`, {input: shape}, width of the targets)}"""
    images = {"images": (224, 224, 3)}
    student = build_vit("deit_ti16_distilled", num_classes=CLASSES)
    teacher = Teacher(build_vit(VARIANT, num_classes=CLASSES), student)
    return {
        "classes": (build_vit(VARIANT, num_classes=CLASSES), images, CLASSES),
        "MAE, 75 % hidden": (build_mae(VARIANT, decoder=DECODER), images | {"noise": (196,)}, 0),
        "SimMIM": (build_mim(VARIANT), images | {"masked": (196,)}, 0),
        "classes and teacher": (Distiller(student, teacher), images, CLASSES),
        "classes and cached teacher": (Distiller(student), images, 2 * CLASSES),
    }


def _batches(inputs, targets, batch_size):
    random = np.random.default_rng(0)
    arrays = {
        name: random.random((batch_size, *shape), dtype="float32") for name, shape in inputs.items()
    }
    if "masked" in arrays:
        arrays["masked"] = arrays["masked"].round()
    if targets:
        shares = np.zeros((batch_size, targets), "float32")
        shares[:, ::CLASSES] = 1
        return tf.data.Dataset.from_tensors((arrays["images"], shares)).repeat(STEPS)
    return tf.data.Dataset.from_tensors(arrays).repeat(STEPS)


def _compiled(model, targets):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True) if targets else None
    model.compile(keras.optimizers.AdamW(1e-3), loss, jit_compile=False)
    return model


if __name__ == "__main__":
    main()
