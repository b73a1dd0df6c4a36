"""A task added in this file alone is exported: one row of ENDPOINTS, and nothing else."""

import json
import zipfile

import keras
import numpy as np
import pytest
from support.tiny import photograph, tiny_model

from export.endpoints import ENDPOINTS
from export.endpoints.endpoints import Endpoints
from export.export import export_model
from vit_keras import InputError, ViT


@keras.saving.register_keras_serializable(package="tests")
class BrightnessModel(ViT):
    """A ViT whose one output is the mean brightness of an image."""

    task = "brightness"


@pytest.fixture
def model_path(tmp_path):
    vit = tiny_model(num_classes=1)
    model = BrightnessModel.from_config(vit.get_config())
    model.set_weights(vit.get_weights())
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.fixture
def images(tmp_path):
    """A folder of images without classes"""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(4):
        photograph(index, (60 * index, 90, 30)).save(folder / f"{index}.png")
    return str(folder)


@pytest.mark.slow
def test_one_row_exports_a_regression_in_every_format(model_path, images, tmp_path, monkeypatch):
    monkeypatch.setitem(ENDPOINTS, "brightness", Endpoints("brightness", "mean of the image"))
    formats, out = ["savedmodel", "tflite", "onnx"], tmp_path / "out"

    rows = export_model(model_path, formats, out, data=images)

    assert [row["format"] for row in rows] == formats
    for row in rows:
        assert row["task"] == "brightness"
        assert row["images"] == 4
        assert row["max_difference"] <= row["tolerance"]
        assert "accuracy" not in row
    report = json.loads((out / "report.json").read_text())
    assert report["artefacts"] == json.loads(json.dumps(rows))
    assert not (out / "labels.txt").exists()
    assert zipfile.ZipFile(out / "model.tflite").namelist() == ["preprocessing.json"]
    served = (out / "saved_model" / "README.md").read_text()
    assert "| `serve_images` |" in served
    assert "`brightness` (batch, 1), mean of the image" in served
    assert "@" not in served


def test_a_task_without_a_row_is_refused(model_path, images, tmp_path):
    with pytest.raises(InputError, match="is a model for brightness, which has no export"):
        export_model(model_path, ["tflite"], tmp_path / "out", data=images)


def test_a_wrong_answer_is_refused_by_its_difference():
    endpoints = Endpoints("brightness")
    expected = {"brightness of pixels": np.array([[1.0], [4.0]])}
    answers = [("brightness of pixels", np.array([[1.0], [3.0]]))]

    quality = endpoints.quality(answers[0][1], expected["brightness of pixels"], None)

    # A mean difference of 0.5, in units of the largest expected answer, 4
    assert quality == pytest.approx(1 - 0.5 / 4)
    assert endpoints.judge(answers, expected, None) == {}
