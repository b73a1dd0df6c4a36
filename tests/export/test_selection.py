"""Names of formats, quantisations and models on the command line -> what is exported."""

import pytest

from export.formats import FORMATS, KINDS
from export.selection import kinds_by_format, select_formats, select_quantizations
from export.subject import find_model
from vit_keras import InputError


def test_all_leaves_out_formats_whose_tools_are_not_installed(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", "")  # no npm
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # and no LiteRT.js that it fetched

    names = select_formats(["all"])

    assert "web" not in names
    assert {"savedmodel", "tflite", "onnx"} <= set(names)
    assert "Left out: web needs Node.js with npm" in capsys.readouterr().out


def test_a_format_that_is_named_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    assert select_formats(["web", "onnx"]) == ["web", "onnx"]  # and fails later, with the reason
    assert select_quantizations(["all"]) == list(KINDS)


@pytest.mark.parametrize(
    ("select", "name", "message"),
    [
        (select_formats, "tflight", "no export format 'tflight'; did you mean tflite?"),
        (select_quantizations, "int-8", "no quantization 'int-8'"),
    ],
)
def test_unknown_names_are_refused(select, name, message):
    with pytest.raises(InputError) as error:
        select([name])

    assert message in str(error.value)


def test_formats_without_the_quantization_are_named(capsys):
    kinds = kinds_by_format(["savedmodel", "tflite"], ["int16x8"])

    assert kinds == {"tflite": ["int16x8"]}
    assert "Left out: savedmodel comes in float32." in capsys.readouterr().out
    with pytest.raises(InputError, match="savedmodel comes in float32. Got --quantization int16x8"):
        kinds_by_format(["savedmodel"], ["int16x8"])


def test_every_kind_says_what_it_is_for():
    assert all(kind.use for row in FORMATS.values() for kind in row.kinds.values())


def test_a_run_folder_stands_for_its_model(tmp_path):
    assert find_model(tmp_path) == tmp_path / "model.keras"
    assert find_model(tmp_path / "other.keras") == tmp_path / "other.keras"
