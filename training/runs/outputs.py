"""Evaluation images and probabilities -> samples/ and predictions.csv of a run folder."""

import csv
import pathlib
import re

import numpy as np
import tensorflow as tf

from training.data.examples import Examples, classes_in_turn
from training.data.preload import shrink
from vit_keras.utils.files import replacing

SAMPLES = 32  # images


def write_samples(examples: Examples, folder: pathlib.Path, short_side: int) -> None:
    """Writes up to 32 images as PNG files, the classes in turn; exports are verified on them.

    Args:
        examples: Examples.
        folder: path of the folder.
        short_side: pixels; images with a longer shorter side are shrunk to it.
    """
    folder.mkdir(exist_ok=True)
    for number, index in enumerate(classes_in_turn(examples.labels)[:SAMPLES]):
        name = re.sub(r"\W+", "-", examples.class_names[examples.labels[index]])
        png = tf.io.encode_png(shrink(examples.read(tf.constant(index)), short_side))
        tf.io.write_file(str(folder / f"{number:02}-{name}.png"), png)


def write_predictions(path: pathlib.Path, probabilities: np.ndarray, examples: Examples) -> None:
    """Writes a row for each image: its name, true class, predicted class and its probability.

    Args:
        path: of the CSV file.
        probabilities: (count, classes) for `examples`.
        examples: Examples.
    """
    predicted, names = probabilities.argmax(axis=1), examples.class_names
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "true", "predicted", "probability"))
        for number, image in enumerate(examples.names):
            label, guess = examples.labels[number], predicted[number]
            probability = f"{probabilities[number, guess]:.6f}"
            writer.writerow((image, names[label], names[guess], probability))
