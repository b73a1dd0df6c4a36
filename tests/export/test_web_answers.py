"""A page in Chromium prepares images and answers like the Keras model."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.answers import NORMALISATION, classifier
from support.browser import NEEDS_BROWSER, BrowserPage
from support.web_page import (
    assert_close,
    keras_answer,
    litert_answer,
    model_pixels,
    most_confident,
    write_page,
)

from export.formats import FORMATS
from vit_keras import Preprocessing, attention_rollout

pytestmark = NEEDS_BROWSER

GREY: dict[str, Any] = {"mean": (0.5,), "std": (0.25,)}
# {kind: largest difference of probabilities from (LiteRT with the same file, Keras)}. In "dynamic",
# one rounding of an activation is a step of an 8-bit number.
TOLERANCES = {"float32": (2e-5, 2e-5), "float16": (2e-5, 1e-3), "dynamic": (1e-2, 2e-2)}
CASES = {
    "float16": (Preprocessing((24, 16), resize="squash", crop=0.8, **NORMALISATION), {}),
    "dynamic": (Preprocessing((16, 24), interpolation="bicubic", **NORMALISATION), {}),
    "grey": (Preprocessing((24, 24), **GREY), {}),
    "merged": (Preprocessing((16, 24), **NORMALISATION), {"merge_tokens": 3}),
}


def check_answers(page, folder, model, pictures, kind="float32"):
    from_litert, from_keras = TOLERANCES[kind]
    for file, expected in most_confident(model, pictures):
        answers = page.choose(file)

        assert len(answers) == 5
        assert next(iter(answers)) == max(expected, key=expected.get)
        assert_close(answers, litert_answer(folder, model.preprocessing, file), from_litert)
        assert_close(answers, expected, from_keras)
    assert page.errors() == []


def test_labels_and_probabilities_are_those_of_keras(web_page, web_folder, web_model, pictures):
    check_answers(web_page, web_folder, web_model, pictures)


@pytest.mark.parametrize("case", CASES)
def test_answers_with_other_rules_kinds_and_models(case, pictures, serve, chromium, tmp_path):
    preprocessing, overrides = CASES[case]
    kind = case if case in FORMATS["web"].kinds else "float32"
    model = classifier(preprocessing, **overrides)
    folder = write_page(model, tmp_path / "page", kind)
    page = BrowserPage(chromium, serve(folder).address)

    check_answers(page, folder, model, pictures, kind)


@pytest.mark.parametrize(
    "rule",
    [
        Preprocessing((16, 24), **NORMALISATION),
        Preprocessing((24, 16), crop=0.9, **NORMALISATION),
        Preprocessing((31, 47), resize="squash", crop=0.875, **NORMALISATION),
        # resized to 12.5 x 16.07 pixels, rounded
        Preprocessing((7, 9), crop=0.56, interpolation="bicubic", **NORMALISATION),
        # larger than any picture
        Preprocessing((500, 400), interpolation="bicubic", **NORMALISATION),
        Preprocessing((500, 700), resize="squash", crop=0.8, **GREY),
        Preprocessing((20, 30), interpolation="bicubic", **GREY),
        Preprocessing((32, 32), resize="pad", **NORMALISATION),
        Preprocessing((31, 48), resize="pad", crop=0.8, **NORMALISATION),
        Preprocessing((500, 400), resize="pad", interpolation="bicubic", **GREY),
    ],
    ids=str,
)
def test_resized_pixels_are_those_of_keras(rule, web_page, pictures):
    for file in pictures[::3]:
        pixels = web_page.evaluate(
            "(async () => {"
            "const { preprocess } = await import('./preprocess.js');"
            f"const file = await (await fetch('../pictures/{file.name}')).blob();"
            "const bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none' });"
            f"return [...preprocess(bitmap, {json.dumps(dataclasses.asdict(rule))})];"
            "})()"
        )

        expected = model_pixels(rule, file)
        difference = np.abs(np.reshape(pixels, expected.shape) - expected.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3  # values halfway between two integers


def test_the_exif_orientation_is_applied(web_model, web_page, pictures, tmp_path):
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        file = tmp_path / f"{orientation}.jpg"
        Image.open(pictures[4]).save(file, quality=95, exif=exif)

        answers = web_page.choose(file)

        assert_close(answers, keras_answer(web_model, file), 2e-5)


def test_the_attention_map_is_the_rollout_of_keras(web_model, pictures, serve, chromium, tmp_path):
    folder = write_page(web_model, tmp_path / "page", attention=True)
    page = BrowserPage(chromium, serve(folder).address)
    for file in pictures[:3]:
        page.choose(file)

        _, _, opacities = page.attention()

        pixels = model_pixels(web_model.preprocessing, file)[np.newaxis]
        images = web_model.preprocessing.normalise(pixels)
        rollout = np.asarray(attention_rollout(web_model, images))
        expected = (190 * rollout / rollout.max()).ravel()  # 190 is the highest opacity
        np.testing.assert_allclose(opacities, expected, atol=1)
