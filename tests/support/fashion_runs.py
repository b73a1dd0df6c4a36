"""Small training runs on Fashion-MNIST by `python -m training`, in processes of their own."""

import json
import socket
import sys

import numpy as np
from support.processes import wait_for

PYTHON = [sys.executable, "-m", "training"]
SETTINGS = {
    "model.width": 48,
    "model.depth": 2,
    "model.mlp_width": 96,
    "model.stem": "patches",
    "model.positions": "learned",
    "batch_size": 1024,
    "jit_compile": False,
    "steps_per_execution": 1,
    "augment": "flip,random_erasing,mixup_or_cutmix",
    "epochs": 4,
    "progressive_resizing": "0.5,0.5",
    "ema_momentum": 0.9,
    "layer_decay": 0.8,
    "global_clipnorm": 0.05,
    "checkpoint_every": 0,
}


def fit_arguments(run, *more, **settings):
    """Arguments of `python -m training` for a run of 4 epochs into the folder `run`."""
    options = [
        text for key, value in (SETTINGS | settings).items() for text in ("--set", f"{key}={value}")
    ]
    return ["fit", "fashion_mini", "--out", str(run), *options, *more]


def history(run):
    """history.csv of a run, by column."""
    return np.genfromtxt(run / "history.csv", delimiter=",", names=True)


def wait_for_two_epochs(run, process):
    lines = run / "history.csv"
    wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) > 2, process)


def assert_same_run(run, reference):
    """Checks that two runs have the same losses, to 1e-5, and the same accuracies."""
    columns, expected = history(run), history(reference)
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(columns[name], expected[name], rtol=1e-5)
    np.testing.assert_array_equal(columns["val_accuracy"], expected["val_accuracy"])
    assert accuracy(run) == accuracy(reference)


def accuracy(run):
    return json.loads((run / "evaluation.json").read_text())["accuracy"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
