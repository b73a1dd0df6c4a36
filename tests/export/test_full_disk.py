"""A disk that becomes full ends an export with one line, and leaves nothing half-written."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
# Files of this process end at 100 kB, as on a disk without a quota for more.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from export.__main__ import main
main(sys.argv[1:])
"""


def export(exported, format, out, program=("-m", "export"), **environment):
    """Runs the command in a process; returns its last line, which is an error."""
    arguments = [str(exported / "model.keras"), "--format", format, "--out", str(out)]
    run = subprocess.run(
        [sys.executable, *program, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
    )
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    return run.stderr.splitlines()[-1]


def test_a_full_disk_is_one_line_and_leaves_no_file(exported, small_disk):
    error = export(exported, "savedmodel", small_disk / "out")

    target = small_disk / "out" / "saved_model" / "1"
    assert error.startswith(f"Error: cannot write {target}: No space left on device; free some")
    assert [path for path in small_disk.rglob("*") if not path.is_dir()] == []
    assert {path.name for path in small_disk.rglob("*")} <= {"out", "saved_model"}


def test_a_full_temporary_folder_is_one_line(exported, small_disk, tmp_path):
    error = export(exported, "tflite", tmp_path / "out", TMPDIR=str(small_disk))

    assert error.startswith(f"Error: cannot write {small_disk}: No space left on device; ")
    assert error.endswith("set TMPDIR to a folder on another disk")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
    assert not list(small_disk.glob(".vit_keras-*"))


def test_a_file_that_becomes_too_large_is_one_line(exported, tmp_path):
    error = export(exported, "savedmodel", tmp_path / "out", ("-c", LIMITED), TMPDIR=str(tmp_path))

    assert re.match(rf"Error: cannot write {tmp_path}.*: File too large; ", error)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".vit_keras-")]


def test_a_file_in_place_of_the_folder_is_one_line(exported, tmp_path):
    (tmp_path / "out").write_text("")

    error = export(exported, "tflite", tmp_path / "out")

    assert error.endswith("this path is a file: choose another path")
