"""Pooling layers, worked out in NumPy."""

import numpy as np
from support.layers import random_tokens, with_random_weights

from vit_keras import (
    Pool,
    SequencePool,
)


def test_pool_takes_one_token_or_the_mean_of_the_patches():
    x = random_tokens(2, 5, 4)

    np.testing.assert_array_equal(np.asarray(Pool("cls")(x)), x[:, 0])
    np.testing.assert_array_equal(np.asarray(Pool("dist")(x)), x[:, 1])
    np.testing.assert_allclose(np.asarray(Pool("mean")(x)), x.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(
        np.asarray(Pool("mean", prefix=2)(x)), x[:, 2:].mean(axis=1), atol=1e-6
    )


def test_sequence_pool_weighs_tokens_by_a_softmax():
    layer = with_random_weights(SequencePool(), (None, 5, 4))
    x = random_tokens(3, 5, 4)
    kernel, bias = layer.get_weights()

    importance = np.exp(x @ kernel + bias)
    expected = (importance / importance.sum(axis=1, keepdims=True) * x).sum(axis=1)

    np.testing.assert_allclose(np.asarray(layer(x)), expected, atol=1e-6)
