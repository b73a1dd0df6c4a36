"""Interrupted runs are resumed, and end as if they had not been interrupted."""

import csv
import dataclasses
import json
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from support.processes import wait_for

from training.__main__ import main
from training.data.datasets import find_splits
from training.runs.checkpoint import Checkpoint, epoch_spans, fingerprint, latest_checkpoint
from vit_keras import load_model

KILL_RUNS = pathlib.Path(__file__).parents[1] / "support" / "kill_runs.py"
GROUPS = ("model", "optimizer", "metrics")
TINY = {
    "variant": "vit_b16",
    "model.patch_size": 4,
    "model.width": 48,
    "model.depth": 2,
    "model.heads": 3,
    "model.mlp_width": 96,
    "image_size": 16,
    "batch_size": 4,
    "jit_compile": False,
    "validation_fraction": 0.25,
    "epochs": 100,
    "validate_every": 5,
}
RANDOM_AND_STATEFUL = {  # every option that is random or has a state
    "model.dropout": 0.1,
    "model.stochastic_depth": 0.1,
    "model.patch_dropout": 0.3,
    "ema_momentum": 0.9,
    "gradient_accumulation_steps": 2,
    "augment": "flip,random_erasing(probability=0.5),mixup_or_cutmix",
    "augment_images": "colour_jitter",  # rand_augment takes as long to trace as all the rest
    "progressive_resizing": "0.5,0.1",  # runs are killed at both sizes
}


def command(data, run, **changes):
    """The command line that trains a tiny model."""
    settings = TINY | changes
    options = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    return [
        sys.executable,
        "-m",
        "training",
        "fit",
        "photos",
        "--data",
        str(data),
        "--out",
        str(run),
        *options,
    ]


def resume(run):
    return [sys.executable, "-m", "training", "fit", "--resume", str(run)]


def assert_same_run(one, other):
    assert (one / "history.csv").read_text() == (other / "history.csv").read_text()
    first, second = (load_model(run / "model.keras") for run in (one, other))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def checkpoint(step):
    arrays = {name: [np.full(3, step, "float32"), np.array([1, 2], "uint32")] for name in GROUPS}
    return Checkpoint(step, arrays, {"best": 0.5, "epoch": 1}, "images")


def test_newest_undamaged_checkpoint_is_read_as_it_was_written(tmp_path, capsys):
    assert latest_checkpoint(tmp_path) is None
    for step in (4, 12):
        checkpoint(step).write(tmp_path / f"step-{step:010}.npz")
    latest = latest_checkpoint(tmp_path)
    assert latest
    assert latest.step == 12
    newest = tmp_path / "step-0000000012.npz"
    intact = newest.read_bytes()
    middle = len(intact) // 2
    damaged = intact[:middle] + bytes([intact[middle] ^ 1]) + intact[middle + 1 :]
    for content in (damaged, intact[:-30], b""):
        newest.write_bytes(content)

        latest = latest_checkpoint(tmp_path)

        assert latest
        assert latest.step == 4
        assert latest.best == {"best": 0.5, "epoch": 1}
        assert latest.images == "images"
        for name in GROUPS:
            np.testing.assert_array_equal(latest.groups[name][0], [4, 4, 4])
            assert latest.groups[name][1].dtype == "uint32"
        assert f"Note: {newest} is damaged and skipped" in capsys.readouterr().out


def test_partial_epoch_is_a_span_of_its_own():
    assert epoch_spans(0, 20, 5) == [(0, 20)]
    assert epoch_spans(7, 20, 5) == [(7, 10), (10, 20)]
    assert epoch_spans(16, 20, 5) == [(16, 20)]
    assert epoch_spans(10, 20, 5) == [(10, 20)]
    assert epoch_spans(7, 20, 5, separate=True) == [(7, 10), (10, 15), (15, 20)]
    assert epoch_spans(10, 20, 5, separate=True) == [(10, 15), (15, 20)]


def test_fingerprint_depends_on_images_labels_and_class_names(photographs):
    examples = find_splits(str(photographs), 3)["train"]()
    assert fingerprint(examples) == fingerprint(examples.subset(np.arange(24)))
    others = [
        fingerprint(examples.subset(np.arange(23))),
        fingerprint(examples.subset(np.arange(24)[::-1])),
        fingerprint(dataclasses.replace(examples, labels=1 - examples.labels)),
        fingerprint(dataclasses.replace(examples, class_names=("blue", "green"))),
    ]
    assert len({fingerprint(examples), *others}) == 5


def test_run_that_cannot_be_resumed_is_an_error(run_folder, tmp_path):
    for arguments, message in (
        ([tmp_path], "is not a run folder: it has no config.json"),
        ([run_folder], "holds a finished run"),
        (
            [run_folder, "--set", "epochs=3"],
            "with its own options; give no others",
        ),
    ):
        with pytest.raises(SystemExit, match=message):
            main(["fit", "--resume", *map(str, arguments)])
    with pytest.raises(SystemExit, match="name a recipe, or a run folder to --resume"):
        main(["fit"])


@pytest.mark.slow
def test_run_killed_ten_times_equals_an_uninterrupted_run(photographs, tmp_path, start):
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    reference = start(
        command(photographs, uninterrupted, **RANDOM_AND_STATEFUL)
    )  # at the same time, on another core
    first = command(photographs, killed, **RANDOM_AND_STATEFUL, checkpoint_every=0)
    task = {"run": str(killed), "kills": 10, "first": first[3:], "resume": resume(killed)[3:]}

    result = subprocess.run(
        [sys.executable, "-P", KILL_RUNS],
        input=json.dumps(task),
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )

    assert reference.wait() == 0
    steps = json.loads(result.stdout)
    assert len(steps) == 11
    assert any(step % 4 for step in steps)  # in the middle of epochs
    assert_same_run(uninterrupted, killed)
    for run in (uninterrupted, killed):
        with open(run / "throughput.csv") as file:
            assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(100))


def newest(run):
    """The step of the newest checkpoint; 0 if there is none."""
    return max((int(path.stem[5:]) for path in run.glob("checkpoints/*.npz")), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_saves_its_state_and_prints_how_to_resume(
    photographs, tmp_path, start, number
):
    run = tmp_path / "run"
    line = command(photographs, run, epochs=100000, checkpoint_every=100000)
    process = start(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for((run / "model.keras").exists, process)

    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    resume_hint = f"resume with: python -m training fit --resume {run}"
    assert errors.splitlines()[-1] == f"Interrupted; {resume_hint}"
    assert "Stopping after saving the state; again to stop at once." in printed
    (saved,) = (run / "checkpoints").iterdir()
    assert Checkpoint.read(saved).step > 0
    assert load_model(run / "model.keras").class_names == ("blue", "red")


@pytest.mark.slow
def test_second_process_cannot_train_in_the_same_folder(photographs, tmp_path, start):
    run = tmp_path / "run"
    first = start(command(photographs, run, epochs=100000, checkpoint_every=0))
    wait_for((run / "checkpoints").exists, first)

    # This process is the second one.
    with pytest.raises(SystemExit, match=f"Error: another process is training in .* {run}."):
        main(["fit", "--resume", str(run)])
    assert first.poll() is None


@pytest.mark.slow
def test_full_disk_ends_the_run_with_a_one_line_error(photographs, tmp_path):
    run, limit = tmp_path / "run", 300_000  # bytes a file may have: model.keras fits
    start = command(photographs, run, checkpoint_every=0)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    ended = subprocess.run(start, capture_output=True, text=True, preexec_fn=fill)

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    path = run / "checkpoints" / "step-"
    message = (
        rf"Error: cannot write {path}\d+.npz: File too large; .*\. "
        rf"When that is repaired, resume with: python -m training fit --resume {run}"
    )
    assert re.fullmatch(message, ended.stderr.splitlines()[-1])


@pytest.mark.slow
def test_run_in_a_folder_that_becomes_read_only_ends_and_keeps_a_checkpoint(
    photographs, tmp_path, start, obey_permissions
):
    run = tmp_path / "run"
    line = command(photographs, run, epochs=100000, checkpoint_every=0)
    process = start(line, stderr=subprocess.PIPE, preexec_fn=obey_permissions)
    wait_for(lambda: newest(run) > 0, process)

    (run / "checkpoints").chmod(0o555)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "Traceback" not in errors
    message = (
        rf"Error: cannot write {run}/checkpoints/step-\d+.npz: Permission denied; "
        rf".*\. When that is repaired, resume with: python -m training fit --resume {run}"
    )
    assert re.fullmatch(message, errors.splitlines()[-1])
    latest = latest_checkpoint(run / "checkpoints")
    assert latest
    assert latest.step > 0


@pytest.mark.slow
def test_deleted_images_end_the_run_which_other_images_cannot_resume(photographs, tmp_path, start):
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(photographs, data)
    line = command(data, run, epochs=100000, checkpoint_every=0, cache_mib=0)
    process = start(line, stderr=subprocess.PIPE)
    wait_for((run / "checkpoints").exists, process)

    for image in (data / "red").iterdir():
        image.unlink()
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "Traceback" not in errors
    message = rf"Error: an image can no longer be read: {data}/red/.* No such file"
    assert re.match(message, errors.splitlines()[-1])

    for image in (data / "blue").iterdir():
        shutil.copy(image, data / "red" / f"other-{image.name}")
    message = f"Error: the images of {data} are not those that the run in {run} was started with."
    with pytest.raises(SystemExit, match=re.escape(message)):
        main(["fit", "--resume", str(run)])
