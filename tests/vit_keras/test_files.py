"""Files are complete or absent."""

import json
import os
import pathlib

import pytest

from vit_keras.utils.errors import InputError
from vit_keras.utils.files import replacing, write_json


def test_a_finished_file_replaces_the_old_one(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    with replacing(tmp_path / "a.txt") as path:
        path.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"

    assert (tmp_path / "a.txt").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_after_an_error_the_old_file_is_unchanged(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as path:
        path.write_text("half")
        raise ZeroDivisionError

    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_folders_appear_only_when_complete(tmp_path):
    with replacing(tmp_path / "1") as path:
        path.mkdir()
        (path / "file").write_text("x")
        assert [p.name for p in tmp_path.iterdir() if p.name.isdecimal()] == []

    assert (tmp_path / "1" / "file").read_text() == "x"


def test_json_is_written_in_utf8_without_escapes(tmp_path):
    write_json(tmp_path / "a.json", {"class": "crème"})

    assert "crème" in (tmp_path / "a.json").read_text()
    assert json.loads((tmp_path / "a.json").read_text()) == {"class": "crème"}


def test_a_folder_replaces_one_with_the_same_files(tmp_path):
    for text in ("old", "new"):
        with replacing(tmp_path / "page") as path:
            (path / "part").mkdir(parents=True)
            (path / "part" / "file").write_text(text)

    assert (tmp_path / "page" / "part" / "file").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_does_not_replace_one_with_other_files(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")

    lost = pytest.raises(InputError, match="already holds letter, which would be lost")
    with lost, replacing(tmp_path / "home") as path:
        path.mkdir()

    assert (tmp_path / "home" / "letter").read_text() == "dear"
    assert len(list(tmp_path.iterdir())) == 1


def test_if_a_folder_cannot_be_moved_the_old_one_is_unchanged(tmp_path, monkeypatch):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "file").write_text("old")
    rename = os.rename

    def refuse_to_rename_the_new_folder(source, target):
        if pathlib.Path(source).name == "page" and pathlib.Path(source).parent != tmp_path:
            raise PermissionError
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_to_rename_the_new_folder)

    with pytest.raises(PermissionError), replacing(tmp_path / "page") as path:
        path.mkdir()
        (path / "file").write_text("new")

    assert (tmp_path / "page" / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
