"""Pages written without verification, and what Keras and LiteRT answer to image files."""

import pathlib

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from support.answers import by_label

from export.checks.run_standalone import ask_tflite
from export.formats import FORMATS
from export.options import Options
from export.source import Source
from export.web.writer import MODEL
from vit_keras.images.decoding import decode_image


def write_page(model, folder, kind="float32", **options):
    """Writes a page as `export` does, without verification."""
    row, chosen, source = FORMATS["web"], Options(**options), folder.with_name("source")
    row.write(model, source, chosen)
    row.kinds[kind].write(Source(source, model, {}, chosen), folder)
    row.finish(model, folder, chosen)
    return folder


def model_pixels(preprocessing, file):
    """An image file as Keras resizes and crops it, uint8 (height, width, channels)."""
    image = decode_image(pathlib.Path(file).read_bytes(), preprocessing.channels)
    return np.clip(np.round(preprocessing.to_size(image)), 0, 255).astype("uint8")


def keras_answer(model, file):
    """{label: probability} that Keras gives to an image file."""
    pixels = model_pixels(model.preprocessing, file)[np.newaxis]
    return by_label(keras.ops.softmax(model(model.preprocessing.normalise(pixels)))[0])


def litert_answer(folder, preprocessing, file):
    """{label: probability} that LiteRT's interpreter gives with the model in a page."""
    pixels = model_pixels(preprocessing, file)[np.newaxis]
    return by_label(ask_tflite(Interpreter(str(folder / MODEL)), pixels)["probabilities"][0])


def assert_close(answers, expected, tolerance):
    """Checks the labels on a page, which shows only some of the expected ones."""
    assert answers
    assert answers == pytest.approx({label: expected[label] for label in answers}, abs=tolerance)


def most_confident(model, files, count=4):
    """[(file, Keras's answer)] with the largest margin between the best two labels.

    The weights are random: rounding could swap the best labels of the other files.
    """
    answers = [(file, keras_answer(model, file)) for file in files]

    def margin(answer):
        best, second = sorted(answer[1].values(), reverse=True)[:2]
        return best - second

    return sorted(answers, key=margin, reverse=True)[:count]
