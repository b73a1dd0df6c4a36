"""An export folder holds the artefacts of one model, each with its SHA-256."""

import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from support.tiny import tiny_model

from export.__main__ import main
from export.digest import artefact_digest, model_digest
from export.folder import ExportFolder
from export.options import Options
from training.recipe import run_of
from vit_keras import InputError, Preprocessing, load_model

ROW = {
    "format": "tflite",
    "quantization": "float32",
    "use": "",
    "task": "classification",
    "model": "",
    "search": None,
    "operations": {},
    "bytes": 1,
    "max_difference": 0.0,
    "tolerance": None,
    "images": 2,
    "source": "2 images",
    "top1_agreement": 1.0,
    "keras_accuracy": 1.0,
    "accuracy": 1.0,
    "change": 0.0,
    "interval": [0.0, 0.0],
    "milliseconds": {"1": 1.0},
    "memory_mb": 1.0,
    "cold_start_ms": 1.0,
    "least_runtime": "",
    "gpu": None,
    "integer": None,
    "half_range": None,
}


@pytest.fixture(scope="module")
def models():
    """Two models with the same architecture and other weights."""
    return [tiny_model(class_names=tuple("abcde"), seed=seed) for seed in (0, 1)]


def export_to(path, model, *names, replace=False):
    """Adds artefacts to a folder as `export_model` does; their content is their name."""
    folder = ExportFolder(path, model, replace)
    folder.check()
    for name in names:
        folder.claim()
        artefact = path / name
        artefact.parent.mkdir(exist_ok=True)
        if "." in name:
            artefact.write_text(name)
        else:
            artefact.mkdir()
            (artefact / "file").write_text(name)
        kind = "savedmodel" if name.startswith("saved_model") else "tflite"
        folder.add({**ROW, "format": kind, "path": name, "sha256": artefact_digest(artefact)})
    folder.finish(run_of(None), Options())


def paths_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


REPORTS = {"report.json", "report.md", "labels.txt", "model_card.md"}


def test_the_digest_of_a_model_survives_saving_and_loading(models, tmp_path):
    model = models[0]
    before = model_digest(model)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")

    assert re.fullmatch("[0-9a-f]{64}", before)
    loaded.description = "another description"
    assert model_digest(loaded) == before
    loaded.save(tmp_path / "again.keras")
    assert model_digest(load_model(tmp_path / "again.keras")) == before


def test_the_digest_of_a_model_depends_on_everything_that_it_computes(models):
    def same_but(**changes):
        model = tiny_model(**{"class_names": tuple("abcde"), **changes})
        model.set_weights(models[0].get_weights())
        return model

    next_float = same_but()
    kernel = next_float.get_layer("head").kernel
    values = np.array(kernel)
    values[0, 0] = np.nextafter(values[0, 0], 9)
    kernel.assign(values)
    others = [
        models[1],
        same_but(class_names=tuple("abced")),
        same_but(preprocessing=Preprocessing((16, 24), crop=0.9)),
        same_but(gelu="tanh"),
        next_float,
    ]

    assert model_digest(same_but()) == model_digest(models[0])
    assert len({model_digest(model) for model in [models[0], *others]}) == 6


def test_the_digest_of_an_artefact_is_that_of_sha256sum(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/d", "b/B", "b.txt", "é"):
        (tmp_path / name).write_text(f"in {name}")
    docs = pathlib.Path(__file__).parents[2] / "docs" / "exporting.md"
    (command,) = re.findall(r"^find \. .*sha256sum$", docs.read_text(), re.MULTILINE)

    def run(line):
        command = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
        return command.stdout.split()[0]

    assert artefact_digest(tmp_path) == run(command)
    assert artefact_digest(tmp_path / "b.txt") == run("sha256sum b.txt")


def test_artefacts_of_one_model_share_a_folder(models, tmp_path):
    export_to(tmp_path, models[0], "model.tflite")
    export_to(tmp_path, models[0], "model_int8.tflite", "saved_model/1")

    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model"]["sha256"] == model_digest(models[0])
    names = ["model.tflite", "model_int8.tflite", "saved_model/1"]
    assert [row["path"] for row in report["artefacts"]] == names
    text = (tmp_path / "report.md").read_text()
    for row in report["artefacts"]:
        assert row["sha256"] == artefact_digest(tmp_path / row["path"])
        assert f"- {row['path']}: SHA-256 {row['sha256']}\n" in text


def test_another_model_is_refused_and_nothing_changes(models, tmp_path):
    export_to(tmp_path, models[0], "model.tflite")
    before = {path: (tmp_path / path).read_bytes() for path in paths_in(tmp_path)}

    expected = (
        rf"{tmp_path} holds the export of another model: vit_b16 \(SHA-256 "
        rf"{model_digest(models[0])[:12]}\.\.\.\)\. Got vit_b16 \(SHA-256 "
        rf"{model_digest(models[1])[:12]}\.\.\.\)\. .* pass --replace"
    )
    with pytest.raises(InputError, match=expected):
        export_to(tmp_path, models[1], "model_int8.tflite")

    assert {path: (tmp_path / path).read_bytes() for path in paths_in(tmp_path)} == before


def test_replace_removes_every_file_of_the_other_model(models, tmp_path):
    export_to(tmp_path, models[0], "model.tflite", "model_int8.tflite", "web")
    (tmp_path / "model_int8.search.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("of the user")

    export_to(tmp_path, models[1], "model_float16.tflite", replace=True)

    assert paths_in(tmp_path) == {"model_float16.tflite", "notes.txt", *REPORTS}
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model"]["sha256"] == model_digest(models[1])
    assert [row["path"] for row in report["artefacts"]] == ["model_float16.tflite"]


def test_replace_keeps_earlier_versions_below_one_of_the_new_model(models, tmp_path):
    export_to(tmp_path, models[0], "saved_model/1", "model.tflite")

    export_to(tmp_path, models[1], "saved_model/2", replace=True)

    assert paths_in(tmp_path) == {"saved_model/1/file", "saved_model/2/file", *REPORTS}
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["earlier_versions"] == ["saved_model/1"]
    assert [row["path"] for row in report["artefacts"]] == ["saved_model/2"]
    text = (tmp_path / "report.md").read_text()
    assert "- saved_model/1: an earlier version, of another model\n" in text


def test_replace_removes_a_saved_model_that_the_new_model_does_not_follow(models, tmp_path):
    export_to(tmp_path, models[0], "saved_model/1", "saved_model_merge8/1", "saved_model/2")
    (tmp_path / "saved_model" / "models.config").write_text("of the kit")

    export_to(tmp_path, models[1], "saved_model_merge8/2", "model.tflite", replace=True)

    versions = {"saved_model_merge8/1/file", "saved_model_merge8/2/file"}
    assert paths_in(tmp_path) == {*versions, "model.tflite", *REPORTS}
    assert not (tmp_path / "saved_model").exists()


def test_a_file_that_was_changed_since_is_not_removed(models, tmp_path):
    export_to(tmp_path, models[0], "model.tflite", "web")
    (tmp_path / "web" / "logo.png").write_text("of the user")

    with pytest.raises(InputError, match="web has been changed since it was exported"):
        export_to(tmp_path, models[1], "model.tflite", replace=True)

    assert (tmp_path / "web" / "logo.png").exists()


def test_a_replacement_that_fails_leaves_the_other_model(models, tmp_path):
    export_to(tmp_path, models[0], "model.tflite", "saved_model/1")
    before = paths_in(tmp_path)

    export_to(tmp_path, models[1], replace=True)  # every artefact was refused

    assert paths_in(tmp_path) == before
    labels = json.loads((tmp_path / "report.json").read_text())["model"]["sha256"]
    assert labels == model_digest(models[0])


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '[{"path": "model.tflite"}]',  # as earlier versions wrote it
        '{"model": {"sha256": "1", "name": "a"}, "artefacts": []}',
        '{"model": {"name": "a"}, "artefacts": [], "earlier_versions": []}',
        '{"model": {"sha256": "1", "name": "a"}, "artefacts": [{"path": "a"}], '
        '"earlier_versions": []}',
        '{"model": {"sha256": "1", "name": "a"}, "artefacts": [], "earlier_versions": ["../a"]}',
        '{"model": {"sha256": "1", "name": "a"}, "artefacts": [], "earlier_versions": ["/a"]}',
    ],
)
def test_an_unreadable_report_is_one_line(text, replace, models, tmp_path):
    (tmp_path / "report.json").write_text(text)

    with pytest.raises(InputError, match="report.json is not a report of this version") as raised:
        export_to(tmp_path, models[0], "model.tflite", replace=replace)

    assert "\n" not in str(raised.value)
    assert paths_in(tmp_path) == {"report.json"}


@pytest.mark.slow
def test_the_command_refuses_another_model_until_replace(exported, models, tmp_path, capsys):
    out, data = tmp_path / "out", ["--data", str(exported / "samples")]
    shutil.copytree(exported / "out", out)
    models[1].save(tmp_path / "model.keras")
    command = [str(tmp_path / "model.keras"), *data, "--out", str(out), "--format", "savedmodel"]

    with pytest.raises(SystemExit, match="Error: .* holds the export of another model: random we"):
        main(command)
    assert (out / "labels.txt").read_text().split() != list("abcde")
    main([*command, "--replace"])

    assert {path.name for path in out.iterdir()} == {"saved_model", *REPORTS}
    assert (out / "labels.txt").read_text().split() == list("abcde")
    versions = {path.name for path in (out / "saved_model").iterdir() if path.is_dir()}
    assert versions == {"1", "2"}
    for version, number in (("1", 7), ("2", 5)):
        path = pathlib.Path(out, "saved_model", version, "assets.extra", "labels.txt")
        assert len(path.read_text().splitlines()) == number
