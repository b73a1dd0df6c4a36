"""Files are complete or absent, and what killed processes leave is removed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from vit_keras.utils.errors import InputError, WriteError
from vit_keras.utils.files import remove_leftovers, replacing, temporary_folder, write_json


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


# Leaves a copy next to the target and a temporary folder: it is killed in the middle.
KILLED = """
import os, signal, sys
from vit_keras.utils.files import replacing, temporary_folder
with temporary_folder() as folder, replacing(sys.argv[1]) as path:
    path.mkdir()
    (path / "half").write_text("half")
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def set_age(folder, hours):
    moment = time.time() - 3600 * hours
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (moment, moment))


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """Kills a process in the middle of its work; returns the two folders that it leaves."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # read TMPDIR again
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()

    def leave():
        before = {*(tmp_path / "out").iterdir(), *(tmp_path / "tmp").iterdir()}
        command = [sys.executable, "-c", KILLED, str(tmp_path / "out" / "model")]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        return [
            path
            for folder in ("out", "tmp")
            for path in (tmp_path / folder).iterdir()
            if path not in before
        ]

    return leave


def test_what_killed_processes_left_is_removed_after_a_day(killed, tmp_path):
    old, new = killed(), killed()
    assert len(old) == len(new) == 2
    for folder in old:
        set_age(folder, hours=25)
    for folder in new:
        set_age(folder, hours=23)

    for name in ("out", "tmp"):
        remove_leftovers(tmp_path / name)

    assert [path.exists() for path in old] == [False, False]
    assert [path.exists() for path in new] == [True, True]


def test_a_folder_in_which_a_file_changed_is_not_a_leftover(killed, tmp_path):
    for folder in killed():
        set_age(folder, hours=25)
        (half,) = (path for path in folder.rglob("half"))
        os.utime(half)

        remove_leftovers(folder.parent)

        assert folder.exists()


def test_files_of_others_are_never_leftovers(tmp_path):
    names = [
        ".vit_keras-short",
        ".vit_keras-abcdefgh-mine",
        ".model-abcdefgh",
        "vit_keras-abcdefgh",
    ]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("precious")
    (tmp_path / ".vit_keras-abcdefgh").symlink_to(tmp_path / "elsewhere")
    set_age(tmp_path, hours=1000)
    os.utime(tmp_path / ".vit_keras-abcdefgh", (0, 0), follow_symlinks=False)
    if os.geteuid() == 0:
        (tmp_path / ".vit_keras-of_other").mkdir()
        os.utime(tmp_path / ".vit_keras-of_other", (0, 0))
        os.chown(tmp_path / ".vit_keras-of_other", 12345, 12345)
        names.append(".vit_keras-of_other")

    remove_leftovers(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {
        *names, "elsewhere", ".vit_keras-abcdefgh"
    }  # fmt: skip
    assert (tmp_path / "elsewhere" / "file").read_text() == "precious"


def test_a_full_disk_names_the_file_and_leaves_nothing(small_disk):
    (small_disk / "model").write_text("old")

    expected = rf"cannot write {small_disk}/model: No space left on device; free some space there"
    with pytest.raises(WriteError, match=expected), replacing(small_disk / "model") as path:
        path.write_bytes(bytes(2_000_000))

    assert [path.name for path in small_disk.iterdir()] == ["model"]
    assert (small_disk / "model").read_text() == "old"


def test_a_full_temporary_folder_suggests_another(small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))

    expected = rf"cannot write {small_disk}: No space left on device; .* set TMPDIR to a folder"
    with pytest.raises(WriteError, match=expected), temporary_folder() as folder:
        (folder / "file").write_bytes(bytes(2_000_000))

    assert list(small_disk.iterdir()) == []


def test_a_full_disk_that_a_library_reports_in_its_own_exception_is_recognised(tmp_path):
    class LibraryError(Exception):
        pass

    expected = f"cannot write {tmp_path}/model: No space left on device"
    with pytest.raises(WriteError, match=expected), replacing(tmp_path / "model"):
        raise LibraryError("model.index; No space left on device [Op:SaveV2]")


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    expected = f"cannot write {tmp_path}/file/model: Not a directory; a part of this path is a file"
    with pytest.raises(WriteError, match=expected), replacing(tmp_path / "file" / "model"):
        pass


def test_errors_of_other_files_stay_as_they_are(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(NotADirectoryError), replacing(tmp_path / "out" / "model"):
        (tmp_path / "file").write_text("")
        (tmp_path / "file" / "input").read_text()
