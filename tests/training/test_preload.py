"""Images are decoded once: unreadable ones are dropped, small datasets stay in memory."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from training.data.datasets import find_splits
from training.data.preload import decode_all
from vit_keras import InputError


@pytest.mark.parametrize("cache_mib", [0, 100])
def test_unreadable_images_are_dropped_with_a_reason(photographs, tmp_path, cache_mib):
    shutil.copytree(photographs, tmp_path, dirs_exist_ok=True)
    broken = tmp_path / "red" / "00.jpg"
    broken.write_bytes(broken.read_bytes()[:-50])
    empty = tmp_path / "blue" / "01.png"
    empty.write_bytes(b"")
    examples = find_splits(str(tmp_path), 3)["train"]()

    readable, reasons = decode_all(examples, cache_mib)

    assert set(reasons) == {str(broken), str(empty)}
    assert "empty" in reasons[str(empty)]
    assert len(readable) == 22
    originals = {name: index for index, name in enumerate(examples.names)}
    for index, name in enumerate(readable.names):
        image = readable.read(tf.constant(index)).numpy()
        assert (image == examples.read(tf.constant(originals[name])).numpy()).all()


def test_only_images_above_the_short_side_are_shrunk(photographs):
    examples = find_splits(str(photographs), 3)["train"]()

    cached, _ = decode_all(examples, cache_mib=100, short_side=15)
    same, _ = decode_all(examples, cache_mib=100, short_side=30)

    image = cached.read(tf.constant(3)).numpy()
    assert image.shape == (15, 22, 3)  # from (30, 43, 3)
    original = examples.read(tf.constant(3)).numpy()
    assert np.abs(image.mean((0, 1)) - original.mean((0, 1))).max() < 2
    assert (same.read(tf.constant(3)).numpy() == original).all()


def test_dataset_without_readable_images_is_an_error(tmp_path):
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "a.jpg").write_bytes(b"")

    with pytest.raises(InputError, match="none of 1 images can be read: .*a.jpg: Input is empty"):
        decode_all(find_splits(str(tmp_path), 3)["train"]())


def test_images_of_one_size_are_one_tensor(tmp_path, photographs):
    for colour in ("blue", "red"):
        (tmp_path / colour).mkdir()
        for copy in range(3):
            shutil.copy(photographs / colour / "00.jpg", tmp_path / colour / f"{copy}.jpg")

    readable, _ = decode_all(find_splits(str(tmp_path), 3)["train"](), cache_mib=1)

    assert readable.pixels is not None
    assert readable.pixels.shape == (6, 30, 40, 3)
