"""An export shows what it does and how long the rest takes, and no chatter of its libraries."""

import os
import re
import subprocess
import sys
import time

import pytest
from support.tiny import tiny_model

from export.formats import FORMATS, KINDS
from export.progress import COSTS, Progress, export_cost

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")


def test_the_time_left_follows_from_the_steps_before():
    progress = Progress(total=10)
    assert progress.line("first", 2, seconds=3.0) == "[  0 %] first"

    progress.done, progress.seconds = 2, 20.0  # 10 s for a cost of 1; 80 s for the rest

    assert progress.line("next", 4, seconds=0.0) == "[ 20 %, 1 min left] next"
    assert progress.line("next", 4, seconds=30.0) == "[ 50 %, 50 s left] next"
    assert progress.line("next", 4, seconds=4000.0) == "[ 58 %, 42 s left] next"  # 95 % of the step
    progress.seconds = 20_000.0
    assert progress.line("next", 4, seconds=0.0) == "[ 20 %, 22.2 h left] next"


def test_every_step_has_a_line_in_a_log_and_long_steps_have_more(capsys, monkeypatch):
    monkeypatch.setattr("export.progress.LOG_SECONDS", 0.2)
    progress = Progress(total=4)

    with progress.step("short", 1):
        pass
    with pytest.raises(ZeroDivisionError), progress.step("long", 1):
        time.sleep(0.5)
        raise ZeroDivisionError
    with progress.step("last", 2):
        pass

    lines = capsys.readouterr().out.splitlines()
    names = [re.fullmatch(r"\[ *\d+ %(, .* left)?\] (\w+)", line)[2] for line in lines]  # type: ignore[index]
    assert names == ["short", "long", "long", "long", "last"]
    assert lines[-1].startswith("[ 50 %, ")


def test_costs_add_up():
    one = COSTS["load"] + COSTS["ask"] + COSTS["convert"] + COSTS["tflite"] + COSTS["int8"]

    assert export_cost([("tflite", ["int8"])]) == one
    for row in FORMATS.values():
        assert export_cost([(row.runtime, [*row.kinds])]) > 0
    assert set(KINDS) <= set(COSTS)


def test_chatter_is_dropped_and_errors_pass():
    code = """
import os, sys
from export.chatter import hide_chatter
hide_chatter()
os.write(2, b"I0000 00:00:1795808430.332284    8376 port.cc:153] oneDNN is on.\\n")
os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
os.write(2, b"E0000 00:00:1795808430.332284    8376 port.cc:153] a real error\\n")
print("of Python", file=sys.stderr)
os.write(2, b"the last words, without an end of line")
os.abort()
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )

    assert run.returncode < 0
    lines = set(run.stderr.splitlines())
    assert lines == {
        "E0000 00:00:1795808430.332284    8376 port.cc:153] a real error",
        "of Python",
        "the last words, without an end of line",
    }


@pytest.mark.slow
def test_the_log_of_an_export_has_progress_and_a_table_and_nothing_else(photographs, tmp_path):
    tiny_model(class_names=tuple("abcde")).save(tmp_path / "model.keras")
    command = [sys.executable, "-m", "export", str(tmp_path / "model.keras"), "--allow-drop"]
    options = ["--data", str(photographs / "red"), "--out", str(tmp_path / "out")]
    kinds = ["--format", "savedmodel", "tflite", "onnx", "--quantization", "float32", "int8"]

    run = subprocess.run(
        [*command, *options, *kinds], capture_output=True, text=True, cwd=ROOT, check=False
    )

    assert run.stderr == ""
    assert run.returncode == 0
    lines = run.stdout.splitlines()
    assert [line for line in lines if not re.match(r"\[ *\d+ %(, .* left)?\] |\|", line)] == []
    assert "[  0 %] loading" in lines[0]
    steps = "\n".join(lines)
    for step in ("asking Keras", "converting to tflite", "tflite in int8: writing"):
        assert f"left] {step}" in steps
