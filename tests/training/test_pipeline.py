"""Batches have every image once an epoch, normalised, and depend only on seed and step."""

import dataclasses
import itertools
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

IDENTITY = Preprocessing(2, mean=(0.0,), std=(1 / 255,))  # returns pixel values
RECIPE = Recipe().replace(channels=1, batch_size=4, seed=3, label_smoothing=0.0)


def numbered(count):
    """`count` images of 2x2 pixels, whose values are the image's index; every third has class b."""
    images = np.repeat(np.arange(count, dtype="uint8"), 4).reshape(count, 2, 2, 1)
    labels = [index % 3 == 0 for index in range(count)]
    return Examples.from_pixels(images, labels, ("a", "b"), list(map(str, range(count))))


def not_in_memory(examples):
    """The same examples, read one by one."""
    return dataclasses.replace(examples, pixels=None)


def indices(batches):
    return [images[:, 0, 0, 0].round().astype(int).tolist() for images, _ in batches]


@pytest.mark.parametrize("path", [lambda e: e, not_in_memory], ids=["in memory", "not in memory"])
def test_every_epoch_has_each_image_once_in_another_order(path):
    batches = class_batches(path(numbered(10)), RECIPE, IDENTITY, last=10)

    stream = list(itertools.chain(*indices(batches.as_numpy_iterator())))

    epochs = [stream[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_of_sorted_images_are_shuffled_uniformly():
    # Folders are read class by class: images 0 to 99 have one class, 100 to 199 another.
    recipe = RECIPE.replace(seed=0, batch_size=20)
    batches = class_batches(numbered(200), recipe, IDENTITY, last=200)

    stream = np.array(indices(batches.as_numpy_iterator()))

    first = (stream < 100).sum(axis=1)
    # 20 drawn from 200 without replacement: variance 20 / 4 * 180 / 199.
    assert first.var() == pytest.approx(4.52, rel=0.3)
    unmoved = (stream.reshape(20, 200) == np.arange(200)).sum(axis=1)
    assert unmoved.mean() < 2  # expected: 1


@pytest.mark.parametrize("path", [lambda e: e, not_in_memory], ids=["in memory", "not in memory"])
def test_parts_of_replicas_join_to_the_batches_of_one_device(path):
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
        step_parts = [*parts[0][3 * step : 3 * step + 3], parts[1][step]]
        assert all(len(part[0]) == 8 for part in step_parts)
        for joined, expected in zip(zip(*step_parts, strict=True), batch, strict=True):
            np.testing.assert_array_equal(np.concatenate(joined), expected)


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
def test_block_size_divides_the_batch(batch_size, block):
    assert block_size(batch_size) == block


@pytest.mark.parametrize(("size", "replicas", "fits"), [(24, 2, 32), (96, 3, 144), (1024, 6, 1080)])
def test_batch_size_that_replicas_cannot_share_is_an_error(size, replicas, fits):
    def batches(size):
        recipe = RECIPE.replace(batch_size=size)
        return class_batches(numbered(50), recipe, IDENTITY, 1, share=Share(0, replicas, replicas))

    message = rf"batch_size={size} cannot .* {replicas} replicas .* batch_size={fits}\."
    with pytest.raises(InputError, match=message):
        batches(size)
    batches(fits)


@pytest.mark.parametrize("path", [lambda e: e, not_in_memory], ids=["in memory", "not in memory"])
def test_data_service_returns_each_block_once(path):
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.partition("://")[2]
    workers = [service.WorkerServer(service.WorkerConfig(address)) for _ in range(2)]
    recipe = RECIPE.replace(batch_size=32, augment=(augment.mixup,))

    for first, last in ((0, 3), (3, 6)):  # two epochs of 96 images
        make_batches = partial(class_batches, path(numbered(96)), recipe, IDENTITY, last, first)
        local, served = (
            np.concatenate([images[:, 0, 0, 0] for images, _ in batches.as_numpy_iterator()])
            for batches in (make_batches(), make_batches(service=dispatcher.target))
        )

        assert len(served) == 96
        np.testing.assert_array_equal(np.sort(served), np.sort(local))
    del workers


def test_batches_do_not_depend_on_memory_or_on_the_number_of_steps():
    examples = numbered(10)
    reference = indices(class_batches(examples, RECIPE, IDENTITY, 6).as_numpy_iterator())

    read = class_batches(not_in_memory(examples), RECIPE, IDENTITY, 6)
    shorter = class_batches(examples, RECIPE, IDENTITY, 3)
    other = class_batches(examples, RECIPE.replace(seed=4), IDENTITY, 6)

    assert indices(read.as_numpy_iterator()) == reference
    assert indices(shorter.as_numpy_iterator()) == reference[:3]
    assert indices(other.as_numpy_iterator()) != reference


def test_batches_can_start_at_any_step():
    examples = numbered(10)
    whole = indices(class_batches(examples, RECIPE, IDENTITY, 6).as_numpy_iterator())

    for path in (examples, not_in_memory(examples)):
        rest = class_batches(path, RECIPE, IDENTITY, 6, first=4)
        assert indices(rest.as_numpy_iterator()) == whole[4:]


@pytest.mark.parametrize("path", [lambda e: e, not_in_memory], ids=["in memory", "not in memory"])
def test_balanced_sampling_draws_classes_equally_often_and_every_image(path):
    recipe = RECIPE.replace(balance="sampling")
    batches = class_batches(path(numbered(10)), recipe, IDENTITY, last=12)

    stream = list(itertools.chain(*indices(batches.as_numpy_iterator())))

    rare = {0, 3, 6, 9}  # of class b
    pairs = [stream[start : start + 2] for start in range(0, 48, 2)]
    assert all(len(rare & set(pair)) == 1 for pair in pairs)
    assert len({pair[0] in rare for pair in pairs}) == 2  # in both orders
    of_a = [image for image in stream if image not in rare]
    assert all(sorted(of_a[start : start + 6]) == [1, 2, 4, 5, 7, 8] for start in (0, 6, 12, 18))
    of_b = [image for image in stream if image in rare]
    assert all(set(of_b[start : start + 4]) == rare for start in range(0, 24, 4))


def test_class_weights_give_all_classes_the_same_total_weight():
    recipe = RECIPE.replace(balance="weights", augment=(augment.mixup,))
    examples = numbered(10)

    batches = class_batches(examples, recipe, IDENTITY, 5).as_numpy_iterator()

    assert balanced_weights(examples).tolist() == [10 / 12, 10 / 8]
    for _, labels, weights in batches:
        np.testing.assert_allclose(weights, labels @ [10 / 12, 10 / 8], rtol=1e-6)


def test_repeated_images_are_neighbours_and_epochs_keep_their_length():
    recipe = RECIPE.replace(repeated_augmentation=2)

    stream = list(
        itertools.chain(
            *indices(class_batches(numbered(10), recipe, IDENTITY, 5).as_numpy_iterator())
        )
    )

    assert stream[::2] == stream[1::2]
    assert sorted(stream[::2]) == list(range(10))


def test_label_smoothing_is_the_last_step():
    recipe = RECIPE.replace(label_smoothing=0.2)

    _, labels = next(class_batches(numbered(8), recipe, IDENTITY, 1).as_numpy_iterator())

    np.testing.assert_allclose(np.sort(labels), [[0.1, 0.9]] * 4, rtol=1e-6)


def test_image_augmentations_run_in_order_with_a_seed_for_each_position():
    def halve(image, seed):
        return augment_images.to_uint8(image) // 2

    def add_noise(image, seed):
        return image + tf.cast(tf.random.stateless_uniform((), seed, 0, 100, tf.int32), tf.uint8)

    recipe = RECIPE.replace(augment_images=(halve, add_noise))
    examples = numbered(8)
    original = np.concatenate(
        indices(class_batches(examples, RECIPE, IDENTITY, 4).as_numpy_iterator())
    )

    first = np.concatenate(
        indices(class_batches(examples, recipe, IDENTITY, 4).as_numpy_iterator())
    )
    again = np.concatenate(
        indices(class_batches(not_in_memory(examples), recipe, IDENTITY, 4).as_numpy_iterator())
    )

    noise = first - original // 2
    assert (noise >= 0).all()
    assert (noise < 100).all()
    assert len(set(noise)) > 8
    assert (first == again).all()


def test_labels_stay_with_their_images():
    for images, labels in class_batches(numbered(10), RECIPE, IDENTITY, 5).as_numpy_iterator():
        for image, label in zip(images, labels, strict=True):
            assert label.tolist() == ([0, 1] if round(image[0, 0, 0]) % 3 == 0 else [1, 0])


def test_batch_may_be_larger_than_the_dataset():
    recipe = RECIPE.replace(batch_size=7)

    (first,) = indices(class_batches(numbered(3), recipe, IDENTITY, 1).as_numpy_iterator())

    assert sorted(first[:3]) == sorted(first[3:6]) == [0, 1, 2]


def test_batch_augmentations_run_in_order_before_normalisation():
    def darken(images, labels, seed):
        return images * 0.5, labels

    def add_ten(images, labels, seed):
        return images + 10, labels

    recipe = RECIPE.replace(augment=(darken, add_ten))
    preprocessing = Preprocessing(2, mean=(0.0,), std=(1.0,))

    images, _ = next(class_batches(numbered(8), recipe, preprocessing, 1).as_numpy_iterator())

    original = next(class_batches(numbered(8), RECIPE, IDENTITY, 1).as_numpy_iterator())[0]
    np.testing.assert_allclose(images, (original * 0.5 + 10) / 255, atol=1e-6)


def test_train_crop_replaces_resizing_in_training_only(photographs):
    examples, _ = decode_all(find_splits(str(photographs), 3)["train"](), cache_mib=100)
    crop = partial(augment.random_resized_crop, area=(0.1, 0.3))
    recipe = Recipe().replace(batch_size=8, train_crop=crop)
    preprocessing = Preprocessing(16)

    train = list(class_batches(examples, recipe, preprocessing, 2).as_numpy_iterator())
    evaluated = list(evaluation_batches(examples, preprocessing, 10).as_numpy_iterator())

    assert [images.shape for images, _ in train] == [(8, 16, 16, 3)] * 2
    assert [images.shape for images, _ in evaluated] == [(10, 16, 16, 3)] * 2 + [(4, 16, 16, 3)]
    expected = preprocessing(examples.read(tf.constant(13)))
    np.testing.assert_allclose(evaluated[1][0][3], expected, atol=1e-6)
    assert evaluated[1][1][3].tolist() == [0, 1]


def test_even_batch_size_is_the_largest_divisor_above_half():
    assert even_batch_size(600, 512) == 300
    assert even_batch_size(1024, 256) == 256
    assert even_batch_size(10, 512) == 10
    assert even_batch_size(513, 512) == 512  # 513 = 27 * 19 has no divisor above 256
