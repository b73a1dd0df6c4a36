"""Files appear whole or not at all."""

import json

import pytest

from vit_keras.files import replacing, write_json


def test_a_finished_file_takes_the_place_of_the_old(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    with replacing(tmp_path / "a.txt") as path:
        path.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"

    assert (tmp_path / "a.txt").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_after_an_error_the_old_file_stands(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as path:
        path.write_text("half")
        raise ZeroDivisionError

    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_folders_appear_whole_too(tmp_path):
    with replacing(tmp_path / "1") as path:
        path.mkdir()
        (path / "file").write_text("x")
        assert [p.name for p in tmp_path.iterdir() if p.name.isdecimal()] == []

    assert (tmp_path / "1" / "file").read_text() == "x"


def test_json_keeps_letters(tmp_path):
    write_json(tmp_path / "a.json", {"class": "crème"})

    assert "crème" in (tmp_path / "a.json").read_text()
    assert json.loads((tmp_path / "a.json").read_text()) == {"class": "crème"}
