"""Layers with random weights, and random inputs for them."""

import numpy as np


def with_random_weights(layer, shape, seed=0):
    """Builds a layer for inputs of a shape and gives it random weights."""
    layer.build(shape)
    random = np.random.default_rng(seed)
    layer.set_weights([0.3 * random.standard_normal(w.shape) for w in layer.get_weights()])
    return layer


def random_tokens(*shape):
    """Normally distributed float32 values."""
    return np.random.default_rng(1).standard_normal(shape).astype("float32")
