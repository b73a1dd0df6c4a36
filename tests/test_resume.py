"""Runs that ended in the middle go on, and end as if they had not."""

import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from training.checkpoint import Checkpoint
from vit_keras import load_model

TINY = {
    "variant": "vit_b16", "model.patch_size": 4, "model.width": 48, "model.depth": 2,
    "model.heads": 3, "model.mlp_width": 96, "image_size": 16, "batch_size": 4, "jit": False,
    "validation_fraction": 0.25, "epochs": 150, "validate_every": 5,
}  # fmt: skip
ALL = {  # that is random, or kept from step to step
    "model.dropout": 0.1, "model.stochastic_depth": 0.1, "model.patch_dropout": 0.3, "ema": 0.9,
    "accumulate": 2, "augment": "flip,random_erasing(probability=0.5),mixup_or_cutmix",
    "augment_images": "rand_augment(layers=1),colour_jitter", "smaller_first": "0.5,0.4",
}  # fmt: skip


def command(data, run, **options):
    """`fit` of a tiny model"""
    settings = TINY | options
    sets = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "training", "fit", "photos", "--data", str(data),
            "--out", str(run), *sets]  # fmt: skip


def resume(run):
    return [sys.executable, "-m", "training", "fit", "--resume", str(run)]


def same_run(one, other):
    assert (one / "history.csv").read_text() == (other / "history.csv").read_text()
    first, second = (load_model(run / "model.keras") for run in (one, other))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_run_killed_ten_times_is_the_run_left_alone(photographs, tmp_path):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    subprocess.run(command(photographs, alone, **ALL), check=True, capture_output=True)

    moments, steps = random.Random(0), [0]
    start = command(photographs, killed, **ALL, checkpoint_every=0)
    for _ in range(10):
        process = subprocess.Popen(start)
        wait_for(lambda: newest(killed) > steps[-1], process)
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        steps.append(newest(killed))
        start = resume(killed)
    subprocess.run(start, check=True)

    assert any(step % 4 for step in steps)  # in the middle of epochs
    same_run(alone, killed)


def newest(run):
    """The step of the newest checkpoint; 0 where there is none"""
    return max((int(path.stem[5:]) for path in run.glob("checkpoints/*.npz")), default=0)


def wait_for(found, process, seconds=300):
    """Waits until `found()` while the process runs."""
    deadline = time.monotonic() + seconds
    while not found() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_and_says_how_to_go_on(photographs, tmp_path, number):
    run = tmp_path / "run"
    start = command(photographs, run, epochs=100000, checkpoint_every=100000)
    process = subprocess.Popen(start, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for((run / "model.keras").exists, process)

    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    go_on = f"go on with: python -m training fit --resume {run}"
    assert errors.splitlines()[-1] == f"Interrupted; {go_on}"
    assert "Stopping, and saving first; again to stop at once." in printed
    (kept,) = (run / "checkpoints").iterdir()
    assert Checkpoint.read(kept).step > 0


@pytest.mark.slow
def test_only_one_process_trains_in_a_folder(photographs, tmp_path):
    run = tmp_path / "run"
    first = subprocess.Popen(command(photographs, run, epochs=100000, checkpoint_every=0))
    wait_for((run / "checkpoints").exists, first)

    second = subprocess.run(resume(run), capture_output=True, text=True)
    first.kill()
    first.wait()

    assert second.returncode == 1
    message = f"Error: another process is training in the run folder {run}."
    assert second.stderr.splitlines()[-1] == message


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_its_last_checkpoint_stays(photographs, tmp_path):
    run, limit = tmp_path / "run", 300_000  # bytes a file may have: model.keras fits
    start = command(photographs, run, checkpoint_every=0)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    ended = subprocess.run(start, capture_output=True, text=True, preexec_fn=fill)

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    path = run / "checkpoints" / "step-"
    message = (
        rf"Error: the checkpoint {path}\d+.npz cannot be written: .* File too large\. "
        rf"When that is mended, go on with: python -m training fit --resume {run}"
    )
    assert re.fullmatch(message, ended.stderr.splitlines()[-1])


@pytest.mark.slow
def test_an_image_that_vanishes_ends_the_run(photographs, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(photographs, data)
    start = command(data, run, epochs=100000, checkpoint_every=0, cache_mib=0)
    process = subprocess.Popen(start, stderr=subprocess.PIPE, text=True)
    wait_for((run / "checkpoints").exists, process)

    for image in (data / "red").iterdir():
        image.unlink()
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "Traceback" not in errors
    message = rf"Error: an image that was there cannot be read: {data}/red/.* No such file"
    assert re.match(message, errors.splitlines()[-1])
