"""A transformer block, its MLP and its LayerNorms compute the equations of the papers."""

import keras
import numpy as np
import pytest
from scipy.special import erf
from support.layers import random_tokens, with_random_weights

from vit_keras import (
    MLP,
    LayerNorm,
    TransformerBlock,
)
from vit_keras.layers.mlp import gelu


@pytest.mark.parametrize("form", ["exact", "tanh"])
def test_block_is_norm_attention_norm_mlp_with_residuals(form):
    layer = with_random_weights(TransformerBlock(heads=2, mlp_width=10, gelu=form), (None, 5, 6))
    x = random_tokens(3, 5, 6)

    after_attention = x + np.asarray(layer.attention(layer.norm1(x)))
    hidden = np.asarray(layer.mlp.expand(layer.norm2(after_attention)))
    if form == "exact":
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    else:
        hidden = hidden / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    expected = after_attention + np.asarray(layer.mlp.reduce(hidden))

    np.testing.assert_allclose(np.asarray(layer(x)), expected, atol=1e-5)


def test_layer_scale_multiplies_both_branches():
    plain = TransformerBlock(heads=2, mlp_width=10, name="block")
    scaled = TransformerBlock(heads=2, mlp_width=10, layer_scale=0.5, name="block")
    with_random_weights(plain, (None, 5, 6))
    scaled.build((None, 5, 6))
    weights = {weight.path: weight for weight in plain.weights}
    for weight in scaled.weights:
        if "scale" not in weight.path:
            weight.assign(weights[weight.path])
    x = random_tokens(2, 5, 6)

    after_attention = x + 0.5 * np.asarray(plain.attention(plain.norm1(x)))
    expected = after_attention + 0.5 * np.asarray(plain.mlp(plain.norm2(after_attention)))

    np.testing.assert_allclose(np.asarray(scaled(x)), expected, atol=1e-5)


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    keras.utils.set_random_seed(0)
    layer = with_random_weights(
        TransformerBlock(heads=2, mlp_width=10, stochastic_depth=0.5), (None, 5, 6)
    )
    # An MLP of zero leaves x + attention, which is either dropped or doubled.
    layer.mlp.reduce.set_weights([np.zeros((10, 6)), np.zeros(6)])
    x = np.repeat(random_tokens(1, 5, 6), 64, axis=0)
    branch = np.asarray(layer(x)) - x

    trained = np.asarray(layer(x, training=True)) - x

    dropped = np.array([(image == 0).all() for image in trained])
    assert 16 < dropped.sum() < 48
    np.testing.assert_allclose(trained[~dropped], 2 * branch[~dropped], atol=1e-5)


def test_dropout_is_active_only_in_training():
    layer = with_random_weights(
        TransformerBlock(heads=2, mlp_width=10, dropout=0.5, attention_dropout=0.5), (None, 5, 6)
    )
    x = random_tokens(2, 5, 6)

    assert (np.asarray(layer(x)) == np.asarray(layer(x))).all()
    assert (np.asarray(layer(x, training=True)) != np.asarray(layer(x, training=True))).any()


def test_swiglu_multiplies_the_silu_of_one_half_by_the_other():
    layer = with_random_weights(MLP(10, swiglu=True), (None, 5, 6))
    x = random_tokens(3, 5, 6)
    expand, expand_bias, reduce, reduce_bias = layer.get_weights()

    a, b = np.split(x @ expand + expand_bias, 2, axis=-1)
    expected = (a / (1 + np.exp(-a)) * b) @ reduce + reduce_bias

    np.testing.assert_allclose(np.asarray(layer(x)), expected, atol=1e-5)


def test_the_two_gelus_differ():
    x = random_tokens(1000)

    difference = np.abs(np.asarray(gelu(x, "exact")) - np.asarray(gelu(x, "tanh"))).max()

    assert 1e-4 < difference < 1e-3


def test_quick_gelu_is_x_times_a_sigmoid():
    x = random_tokens(100)

    np.testing.assert_allclose(
        np.asarray(gelu(x, "quick")), x / (1 + np.exp(-1.702 * x)), atol=1e-6
    )


def test_layer_norm_equals_keras_layer_normalization():
    layer, keras_layer = LayerNorm(epsilon=1e-3), keras.layers.LayerNormalization(epsilon=1e-3)
    x = 5 + 3 * random_tokens(4, 7, 6)
    with_random_weights(layer, x.shape)
    keras_layer.build(x.shape)
    keras_layer.set_weights(layer.get_weights())

    np.testing.assert_allclose(np.asarray(layer(x)), np.asarray(keras_layer(x)), atol=1e-5)


def test_layer_norm_stays_finite_in_half_precision():
    layer = LayerNorm(dtype="mixed_float16")

    normed = np.asarray(layer(np.full((1, 2, 4), 3e4, "float16") * np.array([1, -1, 1, -1])))

    assert normed.dtype == "float16"
    np.testing.assert_allclose(normed[0, 0], [1, -1, 1, -1], atol=1e-3)
