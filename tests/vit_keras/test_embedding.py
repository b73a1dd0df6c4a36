"""Patches, their tokens and positions, worked out by hand on tiny images."""

import keras
import numpy as np
import pytest
from support.layers import random_tokens, with_random_weights
from support.tiny import tiny_model

import vit_keras
from vit_keras import (
    ConvolutionStem,
    InputError,
    PatchEncoder,
    Patches,
)
from vit_keras.layers.masking import Unpatch


def test_patches_are_cut_row_by_row():
    image = np.arange(16).reshape(1, 4, 4, 1)  # 0..15, left to right, top to bottom

    patches = np.asarray(Patches(size=2)(image))

    assert patches.tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]


def test_patches_keep_channels_together_and_images_apart():
    images = random_tokens(3, 4, 6, 2)

    patches = np.asarray(Patches(size=2)(images))

    assert patches.shape == (3, 6, 8)
    for image in range(3):
        for row in range(2):
            for column in range(3):
                box = images[image, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                assert (patches[image, 3 * row + column] == box.ravel()).all()


def test_patches_refuse_images_they_cannot_cut():
    with pytest.raises(InputError, match="size=4 and images of shape"):
        Patches(size=4)(np.zeros((1, 8, 6, 3)))
    with pytest.raises(InputError, match="known size"):
        Patches(size=4)(keras.Input((None, None, 3)))


def test_shifted_patches_contain_the_image_shifted_by_half_a_patch():
    image = np.arange(1, 17).reshape(1, 4, 4, 1)  # 1..16, left to right, top to bottom

    patches = np.asarray(Patches(size=2, shifted=True)(image))

    assert patches.shape == (1, 4, 20)
    pixels = patches.reshape(4, 2, 2, 5)  # (patch, y, x, itself and four shifted)
    top_left, bottom_right = pixels[0], pixels[3]
    assert top_left[..., 0].tolist() == [[1, 2], [5, 6]]
    assert top_left[..., 1].tolist() == [[0, 0], [0, 1]]  # up and left, padded with zeros
    assert top_left[..., 2].tolist() == [[0, 0], [2, 3]]  # up and right
    assert top_left[..., 3].tolist() == [[0, 5], [0, 9]]  # down and left
    assert top_left[..., 4].tolist() == [[6, 7], [10, 11]]  # down and right
    assert bottom_right[..., 4].tolist() == [[16, 0], [0, 0]]


def test_unpatch_is_the_inverse_of_patches():
    images = random_tokens(2, 8, 12, 3)

    np.testing.assert_array_equal(np.asarray(Unpatch((2, 3), 4)(Patches(4)(images))), images)


def test_encoder_projects_prepends_the_cls_token_and_adds_positions():
    layer = with_random_weights(PatchEncoder(8, (1, 2), cls_token=True), (None, 2, 6))
    patches = random_tokens(3, 2, 6)
    kernel, bias = (np.asarray(w) for w in layer.projection.weights)
    cls, table = np.asarray(layer.prefix_table[0]), np.asarray(layer.position_table)

    encoded = np.asarray(layer(patches))

    assert encoded.shape == (3, 3, 8)
    np.testing.assert_allclose(encoded[:, 0], np.tile(cls[0] + table[0, :1], (3, 1)), atol=1e-6)
    np.testing.assert_allclose(encoded[:, 1:], patches @ kernel + bias + table[:, 1:], atol=1e-6)


def test_encoder_refuses_another_grid():
    with pytest.raises(InputError, match="2x3 = 6 patches. Got 4"):
        PatchEncoder(8, (2, 3))(np.zeros((1, 4, 12)))


def test_prefix_tokens_are_in_order_and_may_have_no_positions():
    layer = PatchEncoder(
        8, (1, 2), cls_token=True, dist_token=True, registers=2, prefix_positions=False
    )
    with_random_weights(layer, (None, 2, 6))
    cls, dist, registers = (np.asarray(token)[0] for token in layer.prefix_table)

    encoded = np.asarray(layer(np.zeros((1, 2, 6), "float32")))[0]

    assert layer.position_table.shape == (1, 2, 8)
    np.testing.assert_array_equal(encoded[:4], np.concatenate([cls, dist, registers]))
    expected = np.asarray(layer.projection.bias) + np.asarray(layer.position_table)[0]
    np.testing.assert_allclose(encoded[4:], expected, atol=1e-6)


def test_masked_patches_get_the_mask_token_and_their_positions():
    layer = with_random_weights(PatchEncoder(8, (1, 3), mask_token=True), [(None, 3, 6), (None, 3)])
    patches = random_tokens(1, 3, 6)

    hidden = (
        np.asarray(layer([patches, np.array([[0, 1, 1]])]))[0] - np.asarray(layer.position_table)[0]
    )

    shown = np.asarray(layer([patches, np.zeros((1, 3))]))[0] - np.asarray(layer.position_table)[0]
    np.testing.assert_allclose(hidden[0], shown[0], atol=1e-6)
    np.testing.assert_allclose(hidden[1], np.asarray(layer.mask)[0, 0], atol=1e-6)
    np.testing.assert_allclose(hidden[2], hidden[1], atol=1e-6)


def test_convolution_stem_is_relu_and_max_pooling_by_hand():
    layer = ConvolutionStem(tokens_width=1, layers=1, kernel=3)
    image = np.arange(-8, 8, dtype="float32").reshape(1, 4, 4, 1)
    layer.build(image.shape)
    identity = np.zeros((3, 3, 1, 1))
    identity[1, 1] = 1
    layer.set_weights([identity])

    # ReLU leaves 0..7 in the two lower rows; 3x3 windows at every other pixel, from the first on.
    assert np.asarray(layer(image)).tolist() == [[[2], [3], [6], [7]]]


@pytest.mark.parametrize("prefix", [0, 2])
def test_patch_dropout_keeps_a_random_subset_only_in_training(prefix):
    tokens = np.random.default_rng(0).normal(size=(6, prefix + 8, 3)).astype("float32")
    layer = vit_keras.PatchDropout(0.4, prefix)

    np.testing.assert_array_equal(layer(tokens), tokens)
    subset = np.asarray(layer(tokens, training=True))

    assert subset.shape == (6, prefix + 5, 3)
    np.testing.assert_array_equal(subset[:, :prefix], tokens[:, :prefix])
    rows = [
        {int(np.flatnonzero((before == token).all(-1)).item()) for token in after}
        for before, after in zip(tokens[:, prefix:], subset[:, prefix:], strict=True)
    ]
    assert all(len(row) == 5 for row in rows)  # each at most once
    assert len(set(map(frozenset, rows))) > 3


def test_models_drop_patches_in_training_and_none_at_inference():
    plain = tiny_model(pooling="mean")
    dropping = vit_keras.build_vit(plain.config, patch_dropout=0.5)
    dropping.set_weights(plain.get_weights())
    images = np.random.default_rng(0).normal(size=(2, 16, 24, 3))

    np.testing.assert_array_equal(dropping(images), plain(images))
    trained = dropping(images, training=True)

    assert np.abs(np.asarray(trained) - np.asarray(plain(images))).max() > 1e-3
    tokens = keras.Model(dropping.input, dropping.get_layer("block_0").output)
    assert tokens(images, training=True).shape == (2, 12, 48)
