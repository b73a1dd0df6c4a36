"""What several tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
from tiny import photograph


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
