"""Batches hold every image once an epoch, normalised, and depend on seed and step alone."""

import dataclasses
import itertools
import shutil
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from support.trainers import class_batches

from training.augment import batches as augment
from training.augment import images as augment_images
from training.data.datasets import find_splits
from training.data.examples import Examples
from training.data.pipeline import evaluation_batches, even_batch_size
from training.data.preload import decode_all
from training.data.sampling import Share, balanced_weights, block_size
from training.recipe import Recipe
from vit_keras import InputError, Preprocessing

IDENTITY = Preprocessing(2, mean=(0.0,), std=(1 / 255,))  # gives the pixels themselves
RECIPE = Recipe().replace(channels=1, batch_size=4, seed=3, label_smoothing=0.0)


def numbered(count):
    """`count` images of 2x2 pixels that hold their own index; every third is of class b"""
    images = np.repeat(np.arange(count, dtype="uint8"), 4).reshape(count, 2, 2, 1)
    labels = [index % 3 == 0 for index in range(count)]
    return Examples.from_pixels(images, labels, ("a", "b"), list(map(str, range(count))))


def one_by_one(examples):
    """The same examples through the path of images that are not all in memory"""
    return dataclasses.replace(examples, pixels=None)


def indices(batches):
    return [images[:, 0, 0, 0].round().astype(int).tolist() for images, _ in batches]


@pytest.mark.parametrize("path", [lambda e: e, one_by_one], ids=["in memory", "one by one"])
def test_every_image_comes_once_an_epoch_in_changing_order(path):
    batches = class_batches(path(numbered(10)), RECIPE, IDENTITY, last=10)

    stream = list(itertools.chain(*indices(batches.as_numpy_iterator())))

    epochs = [stream[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_of_sorted_images_are_as_mixed_as_by_chance():
    # Folders are read class by class: images 0 to 99 of one, 100 to 199 of another.
    recipe = RECIPE.replace(seed=0, batch_size=20)
    batches = class_batches(numbered(200), recipe, IDENTITY, last=200)

    stream = np.array(indices(batches.as_numpy_iterator()))

    first = (stream < 100).sum(axis=1)
    # Of 20 drawn from 200 without putting back: variance 20 / 4 * 180 / 199.
    assert first.var() == pytest.approx(4.52, rel=0.3)
    kept = (stream.reshape(20, 200) == np.arange(200)).sum(axis=1)
    assert kept.mean() < 2  # 1 by chance


@pytest.mark.parametrize("path", [lambda e: e, one_by_one], ids=["in memory", "one by one"])
def test_replicas_share_the_batches_of_one(path):
    recipe = RECIPE.replace(
        batch_size=32, augment=(augment.flip, augment.mixup, augment.random_erasing)
    )
    examples = path(numbered(50))
    whole = list(class_batches(examples, recipe, IDENTITY, 5, first=2).as_numpy_iterator())

    # Two processes, one with three of four replicas.
    parts = [
        list(class_batches(examples, recipe, IDENTITY, 5, 2, share=share).as_numpy_iterator())
        for share in (Share(0, 3, 4), Share(3, 1, 4))
    ]

    assert [len(part) for part in parts] == [9, 3]
    for step, batch in enumerate(whole):
        shares = [*parts[0][3 * step : 3 * step + 3], parts[1][step]]
        assert all(len(share[0]) == 8 for share in shares)
        for found, expected in zip(zip(*shares, strict=True), batch, strict=True):
            np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize(
    ("batch_size", "block"),
    [
        (1, 1),
        (4, 4),
        (8, 8),
        (32, 8),
        (64, 16),
        (100, 25),
        (200, 25),
        (256, 32),
        (1024, 32),
        (127, 127),
    ],
)
def test_blocks_make_whole_batches(batch_size, block):
    assert block_size(batch_size) == block


@pytest.mark.parametrize(("size", "replicas", "fits"), [(24, 2, 32), (96, 3, 144), (1024, 6, 1080)])
def test_batches_that_cannot_be_shared_are_refused(size, replicas, fits):
    def batches(size):
        recipe = RECIPE.replace(batch_size=size)
        return class_batches(numbered(50), recipe, IDENTITY, 1, share=Share(0, replicas, replicas))

    message = rf"batch_size={size} cannot .* {replicas} replicas .* batch_size={fits}\."
    with pytest.raises(InputError, match=message):
        batches(size)
    batches(fits)


@pytest.mark.parametrize("path", [lambda e: e, one_by_one], ids=["in memory", "one by one"])
def test_a_data_service_gives_each_block_once(path):
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.partition("://")[2]
    workers = [service.WorkerServer(service.WorkerConfig(address)) for _ in range(2)]
    recipe = RECIPE.replace(batch_size=32, augment=(augment.mixup,))

    for first, last in ((0, 3), (3, 6)):  # two epochs of 96 images
        give = partial(class_batches, path(numbered(96)), recipe, IDENTITY, last, first)
        alone, served = (
            np.concatenate([images[:, 0, 0, 0] for images, _ in batches.as_numpy_iterator()])
            for batches in (give(), give(service=dispatcher.target))
        )

        assert len(served) == 96
        np.testing.assert_array_equal(np.sort(served), np.sort(alone))
    del workers


def test_both_paths_and_every_length_give_the_same_batches():
    examples = numbered(10)
    reference = indices(class_batches(examples, RECIPE, IDENTITY, 6).as_numpy_iterator())

    apart = class_batches(one_by_one(examples), RECIPE, IDENTITY, 6)
    shorter = class_batches(examples, RECIPE, IDENTITY, 3)
    other = class_batches(examples, RECIPE.replace(seed=4), IDENTITY, 6)

    assert indices(apart.as_numpy_iterator()) == reference
    assert indices(shorter.as_numpy_iterator()) == reference[:3]
    assert indices(other.as_numpy_iterator()) != reference


def test_a_run_can_be_taken_up_at_any_batch():
    examples = numbered(10)
    whole = indices(class_batches(examples, RECIPE, IDENTITY, 6).as_numpy_iterator())

    for path in (examples, one_by_one(examples)):
        rest = class_batches(path, RECIPE, IDENTITY, 6, first=4)
        assert indices(rest.as_numpy_iterator()) == whole[4:]


@pytest.mark.parametrize("path", [lambda e: e, one_by_one], ids=["in memory", "one by one"])
def test_balanced_sampling_gives_classes_alike_and_leaves_no_image_out(path):
    recipe = RECIPE.replace(balance="sampling")
    batches = class_batches(path(numbered(10)), recipe, IDENTITY, last=12)

    stream = list(itertools.chain(*indices(batches.as_numpy_iterator())))

    rare = {0, 3, 6, 9}  # of class b
    pairs = [stream[start : start + 2] for start in range(0, 48, 2)]
    assert all(len(rare & set(pair)) == 1 for pair in pairs)
    assert len({pair[0] in rare for pair in pairs}) == 2  # in changing order
    often = [image for image in stream if image not in rare]
    assert all(sorted(often[start : start + 6]) == [1, 2, 4, 5, 7, 8] for start in (0, 6, 12, 18))
    seldom = [image for image in stream if image in rare]
    assert all(set(seldom[start : start + 4]) == rare for start in range(0, 24, 4))


def test_class_weights_make_all_classes_count_alike():
    recipe = RECIPE.replace(balance="weights", augment=(augment.mixup,))
    examples = numbered(10)

    batches = class_batches(examples, recipe, IDENTITY, 5).as_numpy_iterator()

    assert balanced_weights(examples).tolist() == [10 / 12, 10 / 8]
    for _, labels, weights in batches:
        np.testing.assert_allclose(weights, labels @ [10 / 12, 10 / 8], rtol=1e-6)


def test_repeated_images_stand_beside_each_other_and_epochs_keep_their_length():
    recipe = RECIPE.replace(repeated_augmentation=2)

    stream = list(
        itertools.chain(
            *indices(class_batches(numbered(10), recipe, IDENTITY, 5).as_numpy_iterator())
        )
    )

    assert stream[::2] == stream[1::2]
    assert sorted(stream[::2]) == list(range(10))


def test_labels_are_smoothed_behind_all_else():
    recipe = RECIPE.replace(label_smoothing=0.2)

    _, labels = next(class_batches(numbered(8), recipe, IDENTITY, 1).as_numpy_iterator())

    np.testing.assert_allclose(np.sort(labels), [[0.1, 0.9]] * 4, rtol=1e-6)


def test_image_augmentations_run_in_order_and_by_position():
    def halve(image, seed):
        return augment_images.to_uint8(image) // 2

    def add_noise(image, seed):
        return image + tf.cast(tf.random.stateless_uniform((), seed, 0, 100, tf.int32), tf.uint8)

    recipe = RECIPE.replace(augment_images=(halve, add_noise))
    examples = numbered(8)
    plain = np.concatenate(
        indices(class_batches(examples, RECIPE, IDENTITY, 4).as_numpy_iterator())
    )

    first = np.concatenate(
        indices(class_batches(examples, recipe, IDENTITY, 4).as_numpy_iterator())
    )
    again = np.concatenate(
        indices(class_batches(one_by_one(examples), recipe, IDENTITY, 4).as_numpy_iterator())
    )

    noise = first - plain // 2
    assert (noise >= 0).all()
    assert (noise < 100).all()
    assert len(set(noise)) > 8
    assert (first == again).all()


def test_labels_stay_with_their_images():
    for images, labels in class_batches(numbered(10), RECIPE, IDENTITY, 5).as_numpy_iterator():
        for image, label in zip(images, labels, strict=True):
            assert label.tolist() == ([0, 1] if round(image[0, 0, 0]) % 3 == 0 else [1, 0])


def test_a_batch_may_be_larger_than_the_data():
    recipe = RECIPE.replace(batch_size=7)

    (first,) = indices(class_batches(numbered(3), recipe, IDENTITY, 1).as_numpy_iterator())

    assert sorted(first[:3]) == sorted(first[3:6]) == [0, 1, 2]


def test_augmentations_run_in_order_before_normalisation():
    def darken(images, labels, seed):
        return images * 0.5, labels

    def add_ten(images, labels, seed):
        return images + 10, labels

    recipe = RECIPE.replace(augment=(darken, add_ten))
    spec = Preprocessing(2, mean=(0.0,), std=(1.0,))

    images, _ = next(class_batches(numbered(8), recipe, spec, 1).as_numpy_iterator())

    plain = next(class_batches(numbered(8), RECIPE, IDENTITY, 1).as_numpy_iterator())[0]
    np.testing.assert_allclose(images, (plain * 0.5 + 10) / 255, atol=1e-6)


def test_crops_replace_the_resize_rule_in_training_alone(photographs):
    examples, _ = decode_all(find_splits(str(photographs), 3)["train"](), cache_mib=100)
    crop = partial(augment.random_resized_crop, area=(0.1, 0.3))
    recipe = Recipe().replace(batch_size=8, train_crop=crop)
    spec = Preprocessing(16)

    train = list(class_batches(examples, recipe, spec, 2).as_numpy_iterator())
    evaluated = list(evaluation_batches(examples, spec, 10).as_numpy_iterator())

    assert [images.shape for images, _ in train] == [(8, 16, 16, 3)] * 2
    assert [images.shape for images, _ in evaluated] == [(10, 16, 16, 3)] * 2 + [(4, 16, 16, 3)]
    expected = spec(examples.read(tf.constant(13)))
    np.testing.assert_allclose(evaluated[1][0][3], expected, atol=1e-6)
    assert evaluated[1][1][3].tolist() == [0, 1]


@pytest.mark.parametrize("cache_mib", [0, 100])
def test_unreadable_images_are_found_and_left_out(photographs, tmp_path, cache_mib):
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


def test_large_images_are_shrunk_for_the_cache_and_small_ones_are_not(photographs):
    examples = find_splits(str(photographs), 3)["train"]()

    cached, _ = decode_all(examples, cache_mib=100, short_side=15)
    same, _ = decode_all(examples, cache_mib=100, short_side=30)

    image = cached.read(tf.constant(3)).numpy()
    assert image.shape == (15, 22, 3)  # of 30 x 43
    original = examples.read(tf.constant(3)).numpy()
    assert np.abs(image.mean((0, 1)) - original.mean((0, 1))).max() < 2
    assert (same.read(tf.constant(3)).numpy() == original).all()


def test_a_set_without_readable_images_is_refused(tmp_path):
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "a.jpg").write_bytes(b"")

    with pytest.raises(InputError, match="none of 1 images can be read: .*a.jpg: Input is empty"):
        decode_all(find_splits(str(tmp_path), 3)["train"]())


def test_images_of_one_size_are_stacked(tmp_path, photographs):
    for colour in ("blue", "red"):
        (tmp_path / colour).mkdir()
        for copy in range(3):
            shutil.copy(photographs / colour / "00.jpg", tmp_path / colour / f"{copy}.jpg")

    readable, _ = decode_all(find_splits(str(tmp_path), 3)["train"](), cache_mib=1)

    assert readable.pixels is not None
    assert readable.pixels.shape == (6, 30, 40, 3)


def test_even_batches():
    assert even_batch_size(600, 512) == 300
    assert even_batch_size(1024, 256) == 256
    assert even_batch_size(10, 512) == 10
    assert even_batch_size(513, 512) == 512  # 513 = 27 * 19 has no divisor above 256
