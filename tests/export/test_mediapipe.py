"""MediaPipe reads the metadata of .tflite files, and answers with Keras's labels and scores."""

import fcntl
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from support.tiny import tiny_model, write_tflite

from export.checks.run_standalone import ask_tflite
from export.formats import KINDS
from export.images import Images
from export.options import Options
from export.tflite.convert import convert
from export.tflite.metadata import attach_metadata
from vit_keras import Preprocessing
from vit_keras.images.decoding import decode_image

VERSION = "1.2.3"
CLASSES = ("ant", "bee", "cat", "dog", "èlk", "fox", "gnu")
EACH_CHANNEL = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
ALIKE = {"mean": (0.45, 0.45, 0.45), "std": (0.25, 0.25, 0.25)}
# Normalisation of models by what their files take: of floats MediaPipe knows one for all channels.
NORMALISATIONS = {"in-graph": EACH_CHANNEL, "none": ALIKE}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def ask(request):
    """(model.tflite, [(image file, part or None), ...]) -> MediaPipe's metadata and answers

    MediaPipe has an environment of its own, in pytest's cache: its writer of metadata does not
    import, and its OpenCV and matplotlib are nobody else's.
    """
    folder = request.config.cache.mkdir(f"mediapipe-{VERSION}")
    python = folder / "venv" / "bin" / "python"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first of pytest's processes makes it for all
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
            install = [python, "-m", "pip", "install", "--quiet", f"mediapipe=={VERSION}"]
            subprocess.run(install, check=True)
            (folder / "complete").touch()
    script = pathlib.Path(__file__).parents[1] / "support" / "mediapipe_classify.py"

    def ask(model, tasks):
        question = json.dumps([str(model), [(str(file), part) for file, part in tasks]])
        asked = subprocess.run(
            [python, "-P", script], input=question, capture_output=True, text=True, check=False
        )
        # On Debian it needs the packages libegl1, libgles2 and libgl1.
        assert asked.returncode == 0, asked.stderr
        return json.loads(asked.stdout)

    return ask


def model_with(**preprocessing):
    model = tiny_model(
        num_classes=7, class_names=CLASSES, preprocessing=Preprocessing((16, 24), **preprocessing)
    )
    model.description = "random weights"
    return model


def probabilities(model, images):
    """Keras's {label: score} for each uint8 image of any size"""
    rows = (keras.ops.softmax(model(model.preprocessing(image[np.newaxis]))) for image in images)
    return [dict(zip(CLASSES, np.asarray(row)[0].tolist(), strict=True)) for row in rows]


def assert_alike(answers, expected, tolerance):
    for answer, wanted in zip(answers, expected, strict=True):
        assert answer == pytest.approx(wanted, abs=tolerance)
        assert next(iter(answer)) == max(wanted, key=wanted.get)  # the best comes first


def pictures(folder, suffix, size, count=4):
    """Image files, smooth: 20 colours, and what lies between them"""
    for index in range(count):
        colours = np.random.default_rng(index).integers(0, 256, (4, 5, 3)).astype("uint8")
        path = folder / f"{index}.{suffix}"
        Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(path)
        yield path


@pytest.mark.parametrize("preprocess", NORMALISATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_scores_are_those_of_keras(kind, preprocess, ask, tmp_path):
    model, path = model_with(**NORMALISATIONS[preprocess]), tmp_path / "model.tflite"
    # PNG of the model's size: there is nothing in which decoders and resizers may differ.
    files = list(pictures(tmp_path, "png", (24, 16), count=16))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    # Random weights hardly decide: of the four clearest pictures a few bits must not change it.
    clear = np.argsort(
        [np.diff(sorted(row.values())[-2:])[0] for row in probabilities(model, pixels)]
    )
    files, pixels = [files[index] for index in clear[-4:]], pixels[clear[-4:]]
    convert(model, tmp_path / "source", preprocess)
    seen = Images(pixels, None, [], model.preprocessing.mean, model.preprocessing.std, "pictures")
    KINDS[kind](tmp_path / "source", path, {"calibration": seen, "search": seen}, Options())
    attach_metadata(path, model)

    answers = ask(path, [(file, None) for file in files])["answers"]

    expected = probabilities(model, pixels)
    assert [next(iter(answer)) for answer in answers] == [max(e, key=e.get) for e in expected]
    # Keras's scores, as far as LiteRT has them of this file: arithmetic in another order.
    same = ask_tflite(Interpreter(str(path)), pixels, seen.mean, seen.std)["probabilities"]
    assert_alike(answers, [dict(zip(CLASSES, row.tolist(), strict=True)) for row in same], 2e-5)
    if kind == "float32":
        assert_alike(answers, expected, 2e-5)


def test_a_part_of_the_image_stands_for_the_models_crop(ask, tmp_path):
    model = model_with(crop=0.8, **EACH_CHANNEL)
    write_tflite(model, tmp_path / "model.tflite")
    cut = list(pictures(tmp_path, "png", (30, 30)))
    resized = list(pictures(tmp_path, "jpg", (60, 60)))
    files = [*cut, *resized]
    # 24x16 is the middle 80 % of 30x20, which is 2/3 of the height of a square image.
    part = {"left": 0.1, "right": 0.9, "top": 0.5 - 0.8 / 3, "bottom": 0.5 + 0.8 / 3}

    answers = ask(tmp_path / "model.tflite", [(file, part) for file in files])["answers"]

    expected = probabilities(model, [decode_image(file.read_bytes()).numpy() for file in files])
    assert_alike(answers[: len(cut)], expected[: len(cut)], 2e-5)
    # To half the size, MediaPipe takes single pixels where Keras takes means.
    assert_alike(answers[len(cut) :], expected[len(cut) :], 0.05)


def test_metadata_reads_by_mediapipes_schema(ask, tmp_path):
    model = model_with(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    write_tflite(model, tmp_path / "model.tflite", preprocess="none")

    metadata = ask(tmp_path / "model.tflite", [])["metadata"]

    (tensors,) = metadata.pop("subgraphMetadata")
    assert metadata == {
        "name": "vit_b16",
        "description": "random weights; Vision Transformer for 16x24 pixels: patches of 4, "
        "width 48, 2 blocks, 3 heads, 7 classes",
        "version": "1",
        "author": "",
        "license": "",
        "minParserVersion": "1.0.0",
    }
    (taken,), (given,) = tensors["inputTensorMetadata"], tensors["outputTensorMetadata"]
    assert taken["name"] == "images"
    assert taken["content"] == {
        "contentPropertiesType": 2,  # ImageProperties
        "contentProperties": {"colorSpace": 1, "defaultSize": {"width": 24, "height": 16}},
    }
    (unit,) = taken["processUnits"]
    assert unit == {"optionsType": 1, "options": {"mean": [127.5] * 3, "std": [63.75] * 3}}
    assert taken["stats"] == {"min": [-2.0] * 3, "max": [2.0] * 3}
    assert given["name"] == "probabilities"
    (labels,) = given["associatedFiles"]
    assert (labels["name"], labels["type"]) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


def test_files_that_tell_their_attention_are_classified_all_the_same(ask, tmp_path):
    model, path = model_with(**EACH_CHANNEL), tmp_path / "model.tflite"
    files = list(pictures(tmp_path, "png", (24, 16)))
    convert(model, path, attention=True)
    attach_metadata(path, model)

    found = ask(path, [(file, None) for file in files])

    expected = probabilities(model, [np.asarray(Image.open(file)) for file in files])
    assert_alike(found["answers"], expected, 2e-5)
    (tensors,) = found["metadata"]["subgraphMetadata"]
    outputs = Interpreter(str(path)).get_output_details()
    ranks = {"attention": 3, "probabilities": 2}
    assert [ranks[told["name"]] for told in tensors["outputTensorMetadata"]] == [
        len(output["shape"]) for output in outputs
    ]


@pytest.mark.parametrize(
    ("overrides", "preprocessing", "preprocess", "reason"),
    [
        ({"channels": 1}, {"mean": (0.5,), "std": (0.5,)}, "in-graph", "Only RGB color space"),
        ({}, EACH_CHANNEL, "none", "Per-channel image normalization is not available"),
    ],
)
def test_what_mediapipe_refuses(overrides, preprocessing, preprocess, reason, ask, tmp_path):
    model = tiny_model(preprocessing=Preprocessing((16, 24), **preprocessing), **overrides)
    write_tflite(model, tmp_path / "model.tflite", preprocess=preprocess)

    refused = ask(tmp_path / "model.tflite", [])

    assert reason in refused["answers"]
    assert refused["metadata"]["subgraphMetadata"]
