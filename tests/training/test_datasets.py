"""Datasets: folders, TFDS and Fashion-MNIST as Examples, and clear errors for unusable ones."""

import gzip
import os
import re
import shutil
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from training.data.datasets import find_splits
from training.data.examples import Examples, split_off, stratified_order
from training.data.fashion_mnist import FASHION_CLASSES, read_idx
from vit_keras import InputError


def load_dataset(*arguments, **options):
    return {split: load() for split, load in find_splits(*arguments, **options).items()}


def pixels(examples, index):
    return np.asarray(examples.read(tf.constant(index)))


def test_fashion_mini_has_equally_many_images_of_each_class():
    splits = load_dataset("fashion_mini", channels=1)

    assert splits.keys() == {"train", "test"}
    assert np.bincount(splits["train"].labels).tolist() == [600] * 10
    assert np.bincount(splits["test"].labels).tolist() == [100] * 10
    assert splits["train"].class_names == FASHION_CLASSES
    assert splits["train"].pixels.shape == (6000, 28, 28, 1)
    assert splits["train"].pixels.dtype == "uint8"


def test_grey_images_are_repeated_for_three_channels():
    train = load_dataset("fashion_mini", channels=3)["train"]

    image = pixels(train, 17)
    assert image.shape == (28, 28, 3)
    assert (image == image[..., :1]).all()
    assert image.std() > 10


def test_folder_of_class_folders_is_training_data(photographs):
    splits = load_dataset(str(photographs), channels=3)

    assert splits.keys() == {"train"}
    train = splits["train"]
    assert train.class_names == ("blue", "red")
    assert train.labels.tolist() == [0] * 12 + [1] * 12
    assert train.names[0].endswith("blue/00.jpg")
    for index in range(24):
        image = pixels(train, index)
        assert image.shape == (30, 40 + index % 12, 3)
        assert image[..., 0 if index >= 12 else 2].mean() > 120


def test_folder_of_split_folders_has_these_splits(photographs, tmp_path):
    for split in ("train", "val", "test"):
        shutil.copytree(photographs, tmp_path / split)
    shutil.rmtree(tmp_path / "test" / "blue")

    splits = load_dataset(str(tmp_path), channels=1)

    assert splits.keys() == {"train", "validation", "test"}
    assert splits["test"].labels.tolist() == [1] * 12
    assert pixels(splits["validation"], 0).shape[-1] == 1


def test_hidden_and_unsupported_files_are_ignored(photographs, tmp_path, capsys):
    shutil.copytree(photographs, tmp_path, dirs_exist_ok=True)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "red" / "notes.txt").write_text("none")
    (tmp_path / "red" / "._00.jpg").write_bytes(b"")
    (tmp_path / "blue" / "scan.TIFF").write_bytes(b"")

    train = load_dataset(str(tmp_path), channels=3)["train"]

    assert train.class_names == ("blue", "red")
    assert len(train) == 24
    assert "Warning: 1 images in" in capsys.readouterr().out


def test_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such dataset or folder: nowhere"):
        find_splits("nowhere", 3)
    with pytest.raises(InputError, match="holds no folders of images; lay it out as .*CLASS"):
        find_splits(str(tmp_path), 3)
    (tmp_path / "green").mkdir()
    with pytest.raises(InputError, match="holds no images; files must end in .jpg"):
        load_dataset(str(tmp_path), 3)


def test_test_images_can_be_the_only_split(photographs, tmp_path):
    shutil.copytree(photographs, tmp_path / "test")

    splits = load_dataset(str(tmp_path), channels=3)

    assert splits.keys() == {"test"}
    assert splits["test"].class_names == ("blue", "red")


def test_class_may_have_the_name_of_a_split(photographs, tmp_path):
    shutil.copytree(photographs / "red", tmp_path / "train")
    shutil.copytree(photographs / "blue", tmp_path / "_plane")

    splits = load_dataset(str(tmp_path), channels=3)

    assert splits["train"].class_names == ("_plane", "train")


def test_two_folders_for_one_split_are_an_error(photographs, tmp_path):
    for name in ("train", "val", "validation"):
        shutil.copytree(photographs, tmp_path / name)

    with pytest.raises(InputError, match="val and .*validation both hold validation images"):
        find_splits(str(tmp_path), 3)


def test_file_names_may_have_other_encodings_than_utf8(photographs, tmp_path):
    for colour in ("red", "blue"):
        (tmp_path / colour).mkdir()
        name = os.fsencode(tmp_path / colour) + b"/\xe9t\xe9.jpg"
        shutil.copy(os.fsencode(photographs / colour / "00.jpg"), name)

    train = load_dataset(str(tmp_path), 3)["train"]

    assert pixels(train, 1).shape == (30, 40, 3)
    assert train.names[1].encode().endswith("\ufffdt\ufffd.jpg".encode())


def test_class_of_test_images_alone_is_an_error(photographs, tmp_path):
    shutil.copytree(photographs, tmp_path / "train")
    shutil.copytree(photographs / "red", tmp_path / "test" / "redd")

    with pytest.raises(InputError, match="a class 'redd' .* did you mean red"):
        load_dataset(str(tmp_path), 3)


def examples_of(labels):
    images = np.arange(len(labels), dtype="uint8").reshape(-1, 1, 1, 1)
    names = [str(index) for index in range(len(labels))]
    return Examples.from_pixels(images, labels, ("a", "b"), names)


def test_split_off_takes_the_same_fraction_of_each_class_as_the_seed_decides():
    examples = examples_of([0] * 100 + [1] * 10)

    rest, chosen = split_off(examples, fraction=0.2, seed=1)
    again, _ = split_off(examples, fraction=0.2, seed=1)
    other, _ = split_off(examples, fraction=0.2, seed=2)

    assert np.bincount(chosen.labels).tolist() == [20, 2]
    assert sorted(rest.names + chosen.names, key=int) == list(examples.names)
    assert rest.names == again.names
    assert rest.names != other.names
    assert [pixels(chosen, i).item() for i in range(22)] == [int(name) for name in chosen.names]


def test_split_off_leaves_every_class_in_both_parts():
    rest, chosen = split_off(examples_of([0, 0, 1, 1]), fraction=0.01, seed=0)

    assert rest.labels.tolist() == chosen.labels.tolist() == [0, 1]
    with pytest.raises(InputError, match="class 'b' has 1 image"):
        split_off(examples_of([0, 0, 1]), fraction=0.1, seed=0)


def test_stratified_order_keeps_class_proportions_in_every_beginning():
    labels = np.array([0] * 90 + [1] * 10)

    order = stratified_order(labels, seed=0)

    assert sorted(order) == list(range(100))
    for count in range(10, 101, 10):
        assert abs((labels[order[:count]] == 1).sum() - count / 10) <= 1
    assert order.tolist() == stratified_order(labels, seed=0).tolist()
    assert order.tolist() != stratified_order(labels, seed=1).tolist()


def test_labels_are_matched_to_other_class_names_by_name():
    examples = examples_of([0, 1, 1])

    assert examples.with_classes(("b", "x", "a")).labels.tolist() == [2, 0, 0]
    with pytest.raises(InputError, match="the model has no class 'b'"):
        examples.with_classes(("a", "c"))


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_fashion_mnist_is_read_from_idx_files(tmp_path):
    random = np.random.default_rng(0)
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = random.integers(0, 255, (count, 28, 28)).astype("uint8")
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count, dtype="uint8") % 10)

    splits = load_dataset("fashion_mnist", 1, data_dir=str(tmp_path))

    assert len(splits["train"]) == 20
    assert (splits["test"].pixels[..., 0].numpy() == images).all()
    assert splits["test"].labels.tolist() == list(range(10))


def test_missing_or_damaged_idx_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="train-images-idx3-ubyte.gz is missing. Install Debian"):
        load_dataset("fashion_mnist", 1, data_dir=str(tmp_path))
    file = tmp_path / "half.gz"
    write_idx(file, np.zeros((3, 2), "uint8"))
    for content in (file.read_bytes()[:20], b"not gzip", gzip.compress(b"\0\0\x08")):
        file.write_bytes(content)
        with pytest.raises(
            InputError, match=re.escape(f"{file} is not a complete gzipped idx file")
        ):
            read_idx(file)


@pytest.fixture(scope="session")
def tfds_folder(photographs, tmp_path_factory):
    """A TFDS dataset on disk; each of its two splits has the 12 photographs that are JPEG files."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("tfds")
    source = root / "source"
    for split in ("train", "test"):
        shutil.copytree(photographs, source / split)

    class Photographs(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["blue", "red"]),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(source / split) for split in ("train", "test")}

        def _generate_examples(self, folder):
            for path in sorted(folder.rglob("*.[jJ]*")):
                yield path.name + path.parent.name, {"image": path, "label": path.parent.name}

    Photographs(data_dir=root / "data").download_and_prepare()
    return root / "data"


def test_tfds_dataset_larger_than_memory_is_read_from_files(tfds_folder, monkeypatch, capsys):
    splits = {"train": "train[:75%]"}
    in_memory = load_dataset("tfds:photographs", 3, splits, str(tfds_folder))["train"]
    full = SimpleNamespace(available=10)  # bytes
    monkeypatch.setattr("psutil.virtual_memory", lambda: full)

    for turn in range(2):  # the second reads the files of the first
        unpacked = load_dataset("tfds:photographs", 3, splits, str(tfds_folder))["train"]
        assert ("Unpacking images into" in capsys.readouterr().out) == (turn == 0)
        assert unpacked.labels.tolist() == in_memory.labels.tolist()
        assert unpacked.class_names == in_memory.class_names
        for index in range(len(in_memory)):
            np.testing.assert_array_equal(unpacked.read(index), in_memory.read(index))


def test_tfds_split_may_be_a_slice(tfds_folder):
    splits = load_dataset("tfds:photographs", 3, {"train": "train[:75%]"}, str(tfds_folder))

    assert splits.keys() == {"train", "test"}
    assert len(splits["train"]) == 9
    assert len(splits["test"]) == 12
    assert splits["train"].class_names == ("blue", "red")
    for index in range(12):
        image = pixels(splits["test"], index)
        assert image[..., 2 * (1 - splits["test"].labels[index])].mean() > 120


def test_unknown_tfds_dataset_or_split_is_an_error(tfds_folder):
    with pytest.raises(InputError, match="TFDS has no dataset 'no_such_set'"):
        load_dataset("tfds:no_such_set", 3)
    with pytest.raises(InputError, match="no split 'tests'"):
        load_dataset("tfds:photographs", 3, {"test": "tests"}, str(tfds_folder))
