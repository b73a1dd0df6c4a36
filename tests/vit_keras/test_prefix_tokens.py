"""Tokens before the patches: what reads them, and how they start."""

from typing import Any

import numpy as np
from support.tiny import tiny_model

from vit_keras import build_vit


def test_attention_pooling_reads_only_the_patches():
    model = tiny_model(pooling="map", cls_token=True, registers=2)
    pool = model.get_layer("pool")
    tokens = np.random.default_rng(0).standard_normal((1, 27, 48)).astype("float32")
    other_prefix = tokens.copy()
    other_prefix[:, :3] += 1

    np.testing.assert_array_equal(pool(tokens), pool(other_prefix))


def test_registers_start_with_different_values():
    shape: dict[str, Any] = {"patch_size": 8, "width": 16, "depth": 1, "heads": 2, "mlp_width": 16}
    model = build_vit("vit_b16", image_size=16, registers=2, prefix_positions=False, **shape)
    first, second = np.asarray(model.get_layer("patch_encoder").prefix_table[1])[0]

    assert np.abs(first - second).max() > 0.005
