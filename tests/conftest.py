"""What several tests share."""

import contextlib
import ctypes
import os
import subprocess

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
from support.tiny import TINY, photograph

from training.augment import batches as augment
from training.fit import fit
from training.recipe import Recipe


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder of two classes, 12 images each, of every kind of file there is."""
    folder = tmp_path_factory.mktemp("photographs")
    for colour, rgb in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (folder / colour).mkdir()
        for index in range(12):
            image = photograph(index, rgb, size=(40 + index, 30))
            suffix = ("jpg", "png", "bmp", "gif", "JPEG", "jpg")[index % 6]
            if suffix == "png":
                image = image.convert("RGBA")
            image.save(folder / colour / f"{index:02}.{suffix}")
    return folder


@pytest.fixture(scope="session")
def recipe(photographs):
    """A recipe for the photographs that takes seconds."""
    return Recipe(
        data=str(photographs),
        variant="vit_b16",
        image_size=(16, 24),
        model=TINY,
        augment=(augment.flip,),
        epochs=3,
        warmup_epochs=1,
        batch_size=4,
        learning_rate=3e-3,
        validation_fraction=0.25,
        jit=False,
    )


@pytest.fixture(scope="session")
def run_folder(recipe, tmp_path_factory):
    """The run folder of a finished training on the photographs."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    fit(recipe, folder)
    return folder


@pytest.fixture(scope="session")
def obey_permissions():
    """A preexec_fn for subprocess, with which root, too, cannot write where permissions forbid."""
    libc = ctypes.CDLL(None)
    drop_capability, override_permissions = 24, 1  # linux/prctl.h, linux/capability.h
    return lambda: libc.prctl(drop_capability, override_permissions)


@pytest.fixture
def start():
    """subprocess.Popen, whose processes do not outlive the test"""
    with contextlib.ExitStack() as stack:

        def popen(line, **options):
            process = subprocess.Popen(line, text=True, **options)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield popen
