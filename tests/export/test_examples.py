"""The phone examples use the names, shapes, types and cropping of a real export."""

import json
import pathlib
import re
import shlex
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export.__main__ import main
from export.checks.run_standalone import ask_tflite
from vit_keras import Preprocessing
from vit_keras.images.preprocessing import RESIZES

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
SOURCES = sorted(path for path in EXAMPLES.rglob("*.*") if path.suffix in (".kt", ".swift"))
TEXTS = {path: re.sub("//.*|/\\*.*", "", path.read_text()) for path in SOURCES}
MODEL_FILES = [path for path in SOURCES if path.stem == "ModelFile"]


def test_every_string_in_the_code_is_a_name_in_the_export(exported):
    path = exported / "out" / "model.tflite"
    (signature,) = Interpreter(str(path)).get_signature_list().values()
    with zipfile.ZipFile(path) as attached:
        rule = json.loads(attached.read("preprocessing.json"))
        names = {path.name, *attached.namelist(), *rule, *RESIZES}
    names.update(signature["inputs"], signature["outputs"], ("\\n", ""))

    assert signature == {"inputs": ["images"], "outputs": ["probabilities"]}
    assert len(SOURCES) == 7
    for file, text in TEXTS.items():
        assert set(re.findall('"(.*?)"', text)) <= names, file
    for file in MODEL_FILES:
        used = re.findall(r"image_size|resize|crop|labels\.txt|model\.tflite", TEXTS[file])
        assert {'"pad"', '"crop"'} <= set(re.findall('".*?"', TEXTS[file]))
        assert set(used) == {"image_size", "resize", "crop", "labels.txt", "model.tflite"}


def test_the_code_contains_no_image_size():
    for path, text in TEXTS.items():
        numbers = {int(number) for number in re.findall(r"(?<![\w.])\d+", text)}
        assert numbers <= {0, 1, 2, 3, 4, 5, 8}, path  # 8 is bits


@pytest.mark.slow
def test_the_command_in_the_readme_writes_the_file_that_the_code_takes(exported, tmp_path):
    (command,) = re.findall("^python -m export (.*)$", (EXAMPLES / "README.md").read_text(), re.M)
    words = shlex.split(command)
    words[0], words[-1] = str(exported / "model.keras"), str(tmp_path)

    main([*words, "--allow-drop"])

    interpreter = Interpreter(str(tmp_path / "model_float16.tflite"))
    (images,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert images["dtype"] is probabilities["dtype"] is np.float32
    # `ModelFile` gives pixels of 0 to 255: the answers are those of a file of uint8 pixels.
    pixels = np.random.default_rng(0).integers(0, 256, images["shape"], "uint8")
    runner = interpreter.get_signature_runner()
    answer = runner(images=pixels.astype("float32"))["probabilities"]
    uint8_file = Interpreter(str(exported / "out" / "model.tflite"))
    assert np.abs(answer - ask_tflite(uint8_file, pixels)["probabilities"]).max() < 0.01


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.suffix)
@pytest.mark.parametrize(("resize", "crop"), [("crop", 0.8), ("crop", 1.0), ("squash", 0.5)])
@pytest.mark.parametrize(("height", "width"), [(300, 300), (200, 500), (500, 200)])
def test_the_region_of_an_image_is_that_of_the_preprocessing(path, resize, crop, height, width):
    horizontal = vertical = crop
    if resize == "crop":
        names = {"crop": crop, "min": min, "modelRatio": 24 / 16, "imageRatio": width / height}
        horizontal, vertical = (  # the expressions are valid Python
            eval(expression, names)
            for side in ("horizontal", "vertical")
            for expression in re.findall(f"{side} = (crop \\* .*)", TEXTS[path])
        )

    # An image whose pixels hold their own position (x, y), in fractions of the sides.
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    image = np.stack([*np.meshgrid(x, y), np.zeros((height, width))], axis=-1)
    resized = np.asarray(Preprocessing((16, 24), resize=resize, crop=crop).to_size(image))

    middle = resized[4:-4, 4:-4]  # at the edges, the resize averages one side only
    first, last = middle[0, 0], middle[-1, -1]
    sides = (last - first)[:2] / (15, 7) * (24, 16)  # from 15 and 7 steps to whole sides
    assert sides == pytest.approx([horizontal, vertical], abs=0.01)
    assert (first + last)[:2] / 2 == pytest.approx([0.5, 0.5], abs=0.01)


@pytest.mark.parametrize(("height", "width"), [(300, 300), (200, 500), (500, 200)])
def test_borders_before_the_resize_give_nearly_the_letterbox_of_the_preprocessing(height, width):
    # What `padded` in the examples does: borders to the model's aspect ratio, then a resize.
    image = np.full((height, width, 3), 200, "uint8")
    ratio = 24 / 16
    sides = max(height, round(width / ratio)), max(width, round(height * ratio))
    top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
    canvas = np.zeros((*sides, 3), "uint8")
    canvas[top : top + height, left : left + width] = image

    padded = np.asarray(Preprocessing((16, 24), "squash").to_size(canvas))

    expected = np.asarray(Preprocessing((16, 24), "pad").to_size(image))
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(expected, ((2, 2), (2, 2), (0, 0)), "edge"), (5, 5), (0, 1)
    )
    away_from_the_edge = around.max((-1, -2)) - around.min((-1, -2)) < 1
    assert np.abs(padded - expected)[away_from_the_edge].max() < 1
    assert away_from_the_edge.mean() > 0.3
