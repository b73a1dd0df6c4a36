"""The phone examples agree with what an export really holds."""

import json
import pathlib
import re
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from support.tiny import tiny_model, write_tflite

from vit_keras import Preprocessing

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
SOURCES = sorted(path for path in EXAMPLES.rglob("*.*") if path.suffix in (".kt", ".swift"))
TEXTS = {path: re.sub("//.*|/\\*.*", "", path.read_text()) for path in SOURCES}
MODEL_FILES = [path for path in SOURCES if path.stem == "ModelFile"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.tflite"
    write_tflite(tiny_model(), path)
    return path


def test_names_are_those_of_the_export(exported):
    (signature,) = Interpreter(str(exported)).get_signature_list().values()
    with zipfile.ZipFile(exported) as attached:
        rule = json.loads(attached.read("preprocessing.json"))
        known = {exported.name, *attached.namelist(), *rule, rule["resize"]}
    known.update(signature["inputs"], signature["outputs"], ("\\n", ""))

    assert signature == {"inputs": ["images"], "outputs": ["probabilities"]}
    assert len(SOURCES) == 6
    for path, text in TEXTS.items():
        assert set(re.findall('"(.*?)"', text)) <= known, path
    for path in MODEL_FILES:
        used = re.findall(r"image_size|resize|crop|labels\.txt|model\.tflite", TEXTS[path])
        assert set(used) == {"image_size", "resize", "crop", "labels.txt", "model.tflite"}


def test_no_size_is_written_down():
    for path, text in TEXTS.items():
        numbers = {int(number) for number in re.findall(r"(?<![\w.])\d+", text)}
        assert numbers <= {0, 1, 2, 3, 4, 5, 8, 16}, path  # 8 and 16 are bits


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.suffix)
@pytest.mark.parametrize(("resize", "crop"), [("crop", 0.8), ("crop", 1.0), ("squash", 0.5)])
@pytest.mark.parametrize(("height", "width"), [(300, 300), (200, 500), (500, 200)])
def test_the_part_of_an_image_is_what_the_preprocessing_keeps(path, resize, crop, height, width):
    names = {"crop": crop, "min": min, "wanted": 24 / 16, "given": width / height}
    wide, high = (
        eval(re.search(f"{side} = (crop \\* .*)", TEXTS[path])[1], names)  # the same in Python
        for side in ("wide", "high")
    )
    if resize == "squash":
        wide = high = crop

    # An image whose pixels tell where they are, as fractions of its sides.
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    image = np.stack([*np.meshgrid(x, y), np.zeros((height, width))], axis=-1)
    seen = np.asarray(Preprocessing((16, 24), resize=resize, crop=crop).to_size(image))

    middle = seen[4:-4, 4:-4]  # means of pixels are one-sided at the edges
    first, last = middle[0, 0], middle[-1, -1]
    kept = (last - first)[:2] / (15, 7) * (24, 16)  # from 15 and 7 steps to whole sides
    assert kept == pytest.approx([wide, high], abs=0.01)
    assert (first + last)[:2] / 2 == pytest.approx([0.5, 0.5], abs=0.01)
