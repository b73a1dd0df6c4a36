"""MediaPipe reads the metadata of .tflite files, and gives the labels and scores of Keras."""

import json
import pathlib
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from support.answers import NORMALISATION, by_label, classifier, probabilities
from support.environments import environment_with
from support.shared import shared_folder
from support.tiny import tiny_model, write_tflite

from export.checks.run_standalone import ask_tflite
from export.endpoints.pixels import input_preprocessing
from export.formats import KINDS
from export.images import Images
from export.options import Options
from export.source import Source
from export.tflite import convert
from export.tflite.finish import finish
from vit_keras import Preprocessing
from vit_keras.images.decoding import decode_image

VERSION = "1.2.3"
SCRIPT = pathlib.Path(__file__).parents[1] / "support" / "mediapipe_classify.py"
# Input of the file -> normalisation of the model, and options of the export. For images that the
# caller normalises, MediaPipe's metadata is limited to one mean and one std for all channels.
INPUTS: dict[str, tuple[dict[str, Any], Options]] = {
    "uint8": (NORMALISATION, Options()),
    "float32": (NORMALISATION, Options(input_type="float32")),
    "normalised": (
        {"mean": (0.45, 0.45, 0.45), "std": (0.25, 0.25, 0.25)},
        Options(preprocess="none"),
    ),
}
KINDS_OF_INPUTS = [
    (name, kind) for name in INPUTS for kind in KINDS if (name, kind) != ("normalised", "int8-full")
]
# Of scores, between MediaPipe and LiteRT with the same file, where only the order of additions may
# differ; float32 inputs that differ in the last bit may be one step of 16 bits apart.
TOLERANCES = {"int16x8": 2e-4}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def mediapipe(request):
    """(model.tflite, [(image file, region or None), ...]) -> MediaPipe's metadata and answers.

    MediaPipe has its own environment, in pytest's cache: it would import TensorFlow if it found it,
    and only it needs OpenCV.
    """
    name = f"mediapipe-{VERSION}"
    python = environment_with(request.config.cache, name, f"mediapipe=={VERSION}")

    def classify(model, tasks):
        process = subprocess.run(
            [python, "-P", SCRIPT],
            input=json.dumps([str(model), [(str(file), region) for file, region in tasks]]),
            capture_output=True,
            text=True,
            check=False,
        )
        # On Debian it needs the packages libegl1, libgles2 and libgl1.
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    return classify


def assert_close(answers, expected, tolerance):
    """Checks {label: score} of each image, and that the best label comes first."""
    for answer, scores in zip(answers, expected, strict=True):
        assert answer == pytest.approx(scores, abs=tolerance)
        assert next(iter(answer)) == max(scores, key=scores.get)


def smooth_images(folder, suffix, size, count=4):
    """Files of smooth images, width x height pixels: 20 colours, interpolated."""
    files = [folder / f"{index}.{suffix}" for index in range(count)]
    for index, file in enumerate(files):
        colours = np.random.default_rng(index).integers(0, 256, (4, 5, 3)).astype("uint8")
        Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(file)
    return files


@pytest.fixture(scope="session")
def float32_source(tmp_path_factory):
    """A key of INPUTS -> (model, its float32 .tflite without metadata); converted once."""

    def convert_once(name):
        normalisation, options = INPUTS[name]
        model = classifier(Preprocessing((16, 24), **normalisation))

        def build(folder):
            convert.write_tflite(model, folder / "source", options)

        name = f"mediapipe_{name}"
        return model, shared_folder(tmp_path_factory, name, build) / "source"

    return convert_once


def clear_images(model, folder):
    """Four image files and their pixels, whose labels are clear."""
    # PNG files of the model's size: neither decoders nor resizers can differ.
    files = smooth_images(folder, "png", (24, 16), count=16)
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    # The weights are random: quantization could swap the best labels of less clear images.
    scores = [np.sort(probabilities(model, image)) for image in pixels]
    clearest = np.argsort([row[-1] - row[-2] for row in scores])[-4:]
    return [files[index] for index in clearest], pixels[clearest]


@pytest.mark.parametrize(("name", "kind"), KINDS_OF_INPUTS)
def test_labels_and_scores_are_those_of_keras(name, kind, float32_source, mediapipe, tmp_path):
    options = INPUTS[name][1]
    model, float32_file = float32_source(name)
    files, pixels = clear_images(model, tmp_path)
    rule = input_preprocessing(model, options)
    path, mean, std = tmp_path / "model.tflite", rule.mean, rule.std
    images = Images(pixels, None, [], mean, std, "smooth images")
    parts = {"calibration": images, "search": images}
    KINDS[kind].write(Source(float32_file, model, parts, options), path)
    finish(model, path, options)

    answers = mediapipe(path, [(file, None) for file in files])["answers"]

    expected = [by_label(probabilities(model, image)) for image in pixels]
    best = [max(scores, key=scores.get) for scores in expected]
    assert [next(iter(answer)) for answer in answers] == best
    scores = ask_tflite(Interpreter(str(path)), pixels, mean, std)["probabilities"]
    assert_close(answers, [by_label(row) for row in scores], TOLERANCES.get(kind, 2e-5))
    if kind == "float32":
        assert_close(answers, expected, 2e-5)


def test_a_region_of_interest_replaces_the_models_crop(float32_source, mediapipe, tmp_path):
    model = classifier(Preprocessing((16, 24), crop=0.8, **NORMALISATION))
    # The file takes images of the model's size: it is the same for every crop.
    shutil.copy(float32_source("uint8")[1], tmp_path / "model.tflite")
    finish(model, tmp_path / "model.tflite", Options())
    cropped = smooth_images(tmp_path, "png", (30, 30))
    resized = smooth_images(tmp_path, "jpg", (60, 60))
    files = [*cropped, *resized]
    # 24x16 is the middle 80 % of 30x20, which is 2/3 of the height of a square image.
    region = {"left": 0.1, "right": 0.9, "top": 0.5 - 0.8 / 3, "bottom": 0.5 + 0.8 / 3}

    answers = mediapipe(tmp_path / "model.tflite", [(file, region) for file in files])["answers"]

    images = [decode_image(file.read_bytes()).numpy() for file in files]
    expected = [by_label(probabilities(model, image)) for image in images]
    count = len(cropped)
    assert_close(answers[:count], expected[:count], 2e-5)
    # To shrink by 2, MediaPipe takes single pixels where Keras takes means.
    assert_close(answers[count:], expected[count:], 0.05)


def test_metadata_follows_mediapipes_schema(float32_source, mediapipe, tmp_path):
    model, float32_file = float32_source("normalised")
    model.description = "random weights"
    shutil.copy(float32_file, tmp_path / "model.tflite")
    finish(model, tmp_path / "model.tflite", Options(preprocess="none"))

    metadata = mediapipe(tmp_path / "model.tflite", [])["metadata"]

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
    (images,), (output,) = tensors["inputTensorMetadata"], tensors["outputTensorMetadata"]
    assert images["name"] == "images"
    assert images["content"] == {
        "contentPropertiesType": 2,  # ImageProperties
        "contentProperties": {"colorSpace": 1, "defaultSize": {"width": 24, "height": 16}},
    }
    (unit,) = images["processUnits"]
    assert unit == {"optionsType": 1, "options": {"mean": [114.75] * 3, "std": [63.75] * 3}}
    assert images["stats"]["min"] == pytest.approx([-0.45 / 0.25] * 3)
    assert images["stats"]["max"] == pytest.approx([0.55 / 0.25] * 3)
    assert output["name"] == "probabilities"
    (labels,) = output["associatedFiles"]
    assert (labels["name"], labels["type"]) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


def test_files_with_an_attention_output_are_classified_too(mediapipe, tmp_path):
    model, path = classifier(Preprocessing((16, 24), **NORMALISATION)), tmp_path / "model.tflite"
    files = smooth_images(tmp_path, "png", (24, 16))
    options = Options(attention=True)
    convert.write_tflite(model, path, options)
    finish(model, path, options)

    result = mediapipe(path, [(file, None) for file in files])

    images = [np.asarray(Image.open(file)) for file in files]
    expected = [by_label(probabilities(model, image)) for image in images]
    assert_close(result["answers"], expected, 2e-5)
    (tensors,) = result["metadata"]["subgraphMetadata"]
    outputs = Interpreter(str(path)).get_output_details()
    ranks = {"attention": 3, "probabilities": 2}
    names = [tensor["name"] for tensor in tensors["outputTensorMetadata"]]
    assert [ranks[name] for name in names] == [len(output["shape"]) for output in outputs]


@pytest.mark.parametrize(
    ("overrides", "normalisation", "preprocess", "reason"),
    [
        ({"channels": 1}, {"mean": (0.5,), "std": (0.5,)}, "in-graph", "Only RGB color space"),
        ({}, NORMALISATION, "none", "Per-channel image normalization is not available"),
    ],
)
def test_mediapipe_refuses_grey_models_and_normalisation_per_channel(
    overrides, normalisation, preprocess, reason, mediapipe, tmp_path
):
    model = tiny_model(preprocessing=Preprocessing((16, 24), **normalisation), **overrides)
    write_tflite(model, tmp_path / "model.tflite", preprocess=preprocess)

    result = mediapipe(tmp_path / "model.tflite", [])

    assert reason in result["answers"]
    assert result["metadata"]["subgraphMetadata"]
