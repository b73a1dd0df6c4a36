"""`python -m export`: what it writes, what it refuses, and its errors."""

import dataclasses
import json
import shutil
import zipfile

import keras
import pytest
from support.answers import CLASSES
from support.tiny import randomise, tiny_model

from export.__main__ import main
from export.checks.verify import ask_keras
from export.endpoints.endpoints import largest_difference
from export.export import export_model
from export.formats import EXACT, FORMATS, next_version
from export.images import load_images
from export.labels import class_labels
from export.options import Options
from export.tflite.convert import write_tflite
from vit_keras import InputError, Preprocessing


def test_all_formats_are_written_verified_and_reported(exported, formats):
    rows = json.loads((exported / "out" / "report.json").read_text())["artefacts"]

    assert [row["format"] for row in rows] == formats
    for row in rows:
        assert row["images"] == 12
        assert row["max_difference"] <= row["tolerance"] == EXACT
        assert row["top1_agreement"] == row["keras_accuracy"] == row["accuracy"] == 1.0
        assert row["change"] == 0
        assert set(row["milliseconds"]) == {"1", "2"}
        assert min(row["milliseconds"].values()) > 0
        assert row["memory_mb"] > 0
        assert row["bytes"] > 100_000
        assert f"{row['path']}: random weights" in (exported / "out" / "report.md").read_text()
    names = {path.name for path in (exported / "out").iterdir()}
    reports = {"report.json", "report.md", "labels.txt", "model_card.md"}
    assert names == {"saved_model", "model.tflite", "model.onnx", *reports}
    assert (exported / "out" / "labels.txt").read_text().split("\n")[:-1] == list(CLASSES)


def test_classes_without_names_are_numbered():
    assert class_labels(tiny_model(num_classes=3)) == ("0", "1", "2")


def test_saved_model_versions_increase_numerically(tmp_path):
    assert next_version(tmp_path, "").name == "1"
    for name in ("1", "9", "10", ".11-abc", "notes"):
        (tmp_path / "saved_model" / name).mkdir(parents=True)
    assert next_version(tmp_path, "").name == "11"


@pytest.mark.slow
def test_a_mixed_float16_model_is_exported_in_float32(photographs, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny_model()
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")
    data = str(photographs / "blue")

    (row,) = export_model(tmp_path / "model.keras", ["tflite"], tmp_path / "out", data=data)

    assert row["max_difference"] < 1e-5  # from the same model in float32
    samples = ask_keras(model, load_images(model, data=data)["evaluation"], Options())
    path = tmp_path / "out" / "model.tflite"
    run = FORMATS["tflite"].run(path, samples, model.preprocessing)
    difference = largest_difference(run.answers, samples.expected)
    assert 0 < difference < 5e-3  # from the model in float16
    assert row["top1_agreement"] == 1


@pytest.mark.slow
def test_an_export_to_a_relative_folder_keeps_earlier_rows_of_its_report(
    exported, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    shutil.copytree(exported / "out" / "saved_model", out / "saved_model")
    shutil.copy(exported / "out" / "report.json", out)
    monkeypatch.chdir(tmp_path)

    main([str(exported / "model.keras"), "--format", "tflite", "--out", "out"])

    assert (out / "model.tflite").exists()
    rows = json.loads((out / "report.json").read_text())["artefacts"]
    assert [row["path"] for row in rows] == ["saved_model/1", "model.tflite"]


@pytest.mark.slow
def test_an_artefact_that_differs_from_keras_is_not_published(exported, tmp_path, monkeypatch):
    def write_another_model(model, path, options):
        write_tflite(randomise(tiny_model(num_classes=7), seed=9), path, options)

    wrong = dataclasses.replace(FORMATS["tflite"], write=write_another_model)
    monkeypatch.setitem(FORMATS, "tflite", wrong)
    (tmp_path / "model.tflite").write_bytes(b"the earlier file")

    with pytest.raises(InputError, match="tflite in float32 answers differently from Keras"):
        export_model(exported / "model.keras", ["tflite"], tmp_path)

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.tflite"}
    assert (tmp_path / "model.tflite").read_bytes() == b"the earlier file"


def test_invalid_arguments_end_in_a_one_line_error(exported, tmp_path):
    model, out = str(exported / "model.keras"), tmp_path / "out"
    shutil.copy(model, tmp_path / "model.keras")
    broken = tmp_path / "images"
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"")
    for arguments, message in (
        ([model, "--format", "tflight"], "no export format 'tflight'; did you mean"),
        ([model, "--quantization", "int4"], "no quantization 'int4'; did you mean"),
        ([str(tmp_path / "model.keras")], "there are no images to verify"),
        ([model, "--data", str(broken)], "no image of the train of"),
        ([model, "--data", "nowhere"], "no such dataset or folder: nowhere"),
        ([model, "--max-drop", "2"], "max_drop must be a fraction in [0, 1]"),
        (
            [model, "--format", "savedmodel", "--quantization", "int8"],
            "savedmodel comes in float32. Got --quantization int8.",
        ),
        ([model, "--preprocess", "int8"], "preprocess must be one of in-graph, none"),
        ([model, "--top-k", "0"], "top_k must be a whole number of at least 1"),
        ([model, "--attention", "--merge-tokens", "2"], "merged tokens belong"),
        (["none.keras"], "none.keras does not exist"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--out", str(out)])
        assert str(stopped.value).startswith("Error: ")
        assert "\n" not in str(stopped.value)
        assert message in str(stopped.value)
    assert not out.exists()


@pytest.mark.slow
def test_borders_are_in_the_saved_model_and_the_metadata(photographs, tmp_path):
    # The photographs are wider than the model's images are.
    model = tiny_model(preprocessing=Preprocessing((16, 24), "pad", crop=0.9))
    model.save(tmp_path / "model.keras")
    out = tmp_path / "out"

    rows = export_model(
        tmp_path / "model.keras", ["savedmodel", "tflite"], out, data=str(photographs / "red")
    )

    assert all(row["max_difference"] <= 2e-5 for row in rows)  # also from image files
    with zipfile.ZipFile(out / "model.tflite") as attached:
        assert json.loads(attached.read("preprocessing.json"))["resize"] == "pad"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {
            "distilled": True,
            "registers": 2,
            "layer_scale": 0.1,
            "stem": "resnet",
            "stem_width": 32,
            "stem_blocks": (1,),
            "locality_attention": True,
        },
        {"pooling": "map", "gelu": "quick", "pre_norm": True, "qk_norm": True},
        {"pooling": "sequence", "stem": "convolutions", "swiglu": True},
    ],
    ids=["distilled", "map", "sequence"],
)
def test_every_model_option_exports_to_every_format(options, formats, photographs, tmp_path):
    model = tiny_model(class_names=list("abcde"), **options)
    model.save(tmp_path / "model.keras")

    export_model(tmp_path / "model.keras", formats, tmp_path / "out", data=str(photographs / "red"))

    rows = json.loads((tmp_path / "out" / "report.json").read_text())["artefacts"]
    assert [row["format"] for row in rows] == formats
    assert all(row["max_difference"] <= 2e-5 for row in rows)
