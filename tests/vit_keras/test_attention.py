"""Attention computes the equations of the papers, written in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.layers import random_tokens, with_random_weights

import vit_keras
from vit_keras import (
    InputError,
    MultiHeadSelfAttention,
)
from vit_keras.layers.attention import softmax


def test_attention_matches_the_paper():
    layer = with_random_weights(MultiHeadSelfAttention(heads=2), (None, 5, 6))
    x = random_tokens(3, 5, 6)
    kernel, bias, out_kernel, out_bias = layer.get_weights()
    q, k, v = np.split(x @ kernel + bias, 3, axis=-1)

    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        scores = np.exp(q[..., part] @ k[..., part].swapaxes(1, 2) / np.sqrt(3))
        heads.append(scores / scores.sum(-1, keepdims=True) @ v[..., part])
    expected = np.concatenate(heads, -1) @ out_kernel + out_bias

    np.testing.assert_allclose(np.asarray(layer(x)), expected, atol=1e-5)


def test_attention_equals_keras_multi_head_attention():
    layer = with_random_weights(MultiHeadSelfAttention(heads=2), (None, 5, 6))
    keras_layer = keras.layers.MultiHeadAttention(2, 3)
    x = random_tokens(3, 5, 6)
    keras_layer.build(x.shape, x.shape)
    kernel, bias, out_kernel, out_bias = layer.get_weights()
    split = [
        part
        for kernel_part, bias_part in zip(np.split(kernel, 3, 1), np.split(bias, 3, 0), strict=True)
        for part in (kernel_part.reshape(6, 2, 3), bias_part.reshape(2, 3))
    ]
    keras_layer.set_weights([*split, out_kernel.reshape(2, 3, 6), out_bias])

    np.testing.assert_allclose(np.asarray(layer(x)), np.asarray(keras_layer(x, x)), atol=1e-5)


def test_attention_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(InputError, match="heads=4, width=6"):
        MultiHeadSelfAttention(heads=4)(random_tokens(1, 2, 6))


def test_local_attention_has_a_temperature_and_excludes_the_token_itself():
    layer = with_random_weights(
        MultiHeadSelfAttention(heads=2, qkv_bias=False, local=True), (None, 5, 6)
    )
    x = random_tokens(3, 5, 6)
    weights = {weight.name: np.asarray(weight) for weight in layer.weights}
    temperature = weights["temperature"]
    q, k, v = np.split(x @ np.asarray(layer.qkv.kernel), 3, axis=-1)

    heads = []
    for head, part in enumerate((slice(0, 3), slice(3, 6))):
        scores = np.exp(q[..., part] @ k[..., part].swapaxes(1, 2) / temperature[head])
        scores = scores * (1 - np.eye(5))
        heads.append(scores / scores.sum(-1, keepdims=True) @ v[..., part])
    expected = np.concatenate(heads, -1) @ np.asarray(layer.projection.kernel)

    np.testing.assert_allclose(
        np.asarray(layer(x)), expected + np.asarray(layer.projection.bias), atol=1e-4
    )


def test_local_attention_temperature_starts_at_the_usual_scale():
    layer = MultiHeadSelfAttention(heads=2, local=True)
    layer.build((None, 5, 8))

    np.testing.assert_allclose(np.asarray(layer.temperature).ravel(), [2, 2])  # sqrt(8 / 2)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_large_logits_and_their_gradients_stay_finite(policy):
    attention = vit_keras.MultiHeadSelfAttention(2, dtype=policy)
    tokens = tf.constant(np.random.default_rng(0).normal(size=(2, 5, 8)), tf.float32)
    attention.build(tokens.shape)
    kernel, *rest = attention.qkv.get_weights()
    attention.qkv.set_weights([kernel * 150, *rest])  # logits of some ten thousand
    query, key, _ = np.split(np.asarray(attention.qkv(tokens), "float32")[0], 3, axis=-1)
    assert 1e4 < np.abs(query[:, :4] @ key[:, :4].T / 2).max() < 6e4

    with tf.GradientTape() as tape:
        output = attention(tokens)
    gradients = tape.gradient(output, attention.trainable_weights)

    assert np.isfinite(np.asarray(output, "float32")).all()
    assert all(np.isfinite(np.asarray(gradient, "float32")).all() for gradient in gradients)


def test_softmax_in_half_precision_is_computed_in_float32():
    scores = np.array([[0.0, 1e-3, 2e-3] * 700], "float16")

    result = np.asarray(softmax(tf.constant(scores)))

    x = scores.astype("float64")
    expected = np.exp(x) / np.exp(x).sum()
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result, expected.astype("float16"))
