"""Fixtures that several test files use."""

import contextlib
import ctypes
import os
import subprocess

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
from support.shared import shared_folder
from support.tiny import TINY, photograph


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder of two classes, 12 images each, in every image format."""

    def build(folder):
        for colour, rgb in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
            (folder / colour).mkdir()
            for index in range(12):
                image = photograph(index, rgb, size=(40 + index, 30))
                suffix = ("jpg", "png", "bmp", "gif", "JPEG", "jpg")[index % 6]
                if suffix == "png":
                    image = image.convert("RGBA")
                image.save(folder / colour / f"{index:02}.{suffix}")

    return shared_folder(tmp_path_factory, "photographs", build)


@pytest.fixture(scope="session")
def recipe(photographs):
    """A recipe for the photographs that trains in seconds."""
    # Imported here: a test of the library must not need TensorFlow.
    from training.augment import batches as augment
    from training.recipe import Recipe

    return Recipe().replace(
        dataset=str(photographs),
        variant="vit_b16",
        image_size=(16, 24),
        config=TINY,
        augment=(augment.flip,),
        epochs=3,
        warmup_epochs=1,
        batch_size=4,
        learning_rate=3e-3,
        validation_fraction=0.25,
        jit_compile=False,
    )


@pytest.fixture(scope="session")
def run_folder(recipe, tmp_path_factory):
    """The run folder of a finished training on the photographs."""
    from training.fit import fit

    return shared_folder(tmp_path_factory, "run", lambda folder: fit(recipe, folder))


@pytest.fixture(scope="session")
def obey_permissions():
    """A preexec_fn for subprocess: file permissions apply to root as well."""
    libc = ctypes.CDLL(None)
    drop_capability, override_permissions = 24, 1  # linux/prctl.h, linux/capability.h
    return lambda: libc.prctl(drop_capability, override_permissions)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 0.25 MB; only root can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs a small disk, which only root can mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def start():
    """subprocess.Popen whose processes are killed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def popen(line, **options):
            process = subprocess.Popen(line, text=True, **options)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield popen
