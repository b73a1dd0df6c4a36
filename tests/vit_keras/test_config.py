"""Configs no ViT can be built from are refused, with what to try."""

import re
from typing import Any

import numpy as np
import pytest

from vit_keras import BlockConfig, InputError, ViTConfig


def test_image_size_is_an_int_or_height_and_width():
    assert ViTConfig(image_size=32, patch_size=4).image_size == (32, 32)
    assert ViTConfig(image_size=(32, 64), patch_size=4).grid == (8, 16)


def test_prefix_tokens_are_named_in_order():
    assert ViTConfig(distilled=True, registers=4).prefix_tokens == {
        "cls": 1,
        "dist": 1,
        "registers": 4,
    }
    assert ViTConfig(pooling="mean").prefix_tokens == {}
    assert ViTConfig(pooling="mean", cls_token=True).prefix_tokens == {"cls": 1}


def test_stem_stride_is_the_factor_by_which_the_stem_shrinks_the_image():
    resnet: dict[str, Any] = {"stem": "resnet", "patch_size": 32}

    assert ViTConfig().stem_stride == 1
    assert ViTConfig(**resnet).stem_stride == 4
    assert ViTConfig(**resnet, stem_blocks=(3, 4, 6, 3)).stem_stride == 32
    assert ViTConfig(stem="convolutions", patch_size=4).stem_layers == 2
    assert ViTConfig(stem="convolutions", stem_kernel=7, patch_size=16).stem_layers == 2


def test_config_survives_a_round_trip_through_flat_fields():
    config = ViTConfig((32, 64), patch_size=4, block=BlockConfig(gelu="tanh"), pooling="mean")

    fields = config.to_fields()

    assert fields["gelu"] == "tanh"
    assert "block" not in fields
    assert ViTConfig.from_fields(**fields) == config


def test_replace_takes_fields_of_the_block_and_of_the_config():
    config = ViTConfig().replace(depth=2, heads=4, qk_norm=True)

    assert config == ViTConfig(depth=2, block=BlockConfig(heads=4, qk_norm=True))


def test_unknown_fields_are_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="no field 'qknorm'; did you mean qk_norm"):
        ViTConfig().replace(qknorm=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 30}, "image_size=(30, 30), patch_size=16; try image_size=(32, 32)"),
        ({"image_size": (32, 50)}, "try image_size=(32, 48)"),
        ({"image_size": (1, 2, 3)}, "Got (1, 2, 3)"),
        ({"image_size": "32"}, "whole number of at least 1. Got image_size='32'"),
        ({"image_size": 0}, "at least 1. Got image_size=0"),
        ({"heads": 7}, "heads=7, width=768; try heads=6"),
        ({"width": -768}, "at least 1. Got width=-768"),
        ({"depth": 0}, "at least 1. Got depth=0"),
        ({"depth": 1.5}, "whole number of at least 1. Got depth=1.5"),
        ({"channels": 0}, "Got channels=0"),
        ({"num_classes": -1}, "Got num_classes=-1"),
        ({"patch_size": True}, "Got patch_size=True"),
        ({"pooling": "max"}, "one of cls, mean, map, sequence. Got pooling='max'"),
        ({"positions": "rotary"}, "one of learned, sincos2d"),
        ({"swiglu": 2}, "one of False, True. Got swiglu=2"),
        ({"gelu": "fast"}, "one of exact, tanh, quick"),
        ({"stem": "resnet", "stem_blocks": (3, 4, 6, 3)}, "Got patch_size=16; try patch_size=32"),
        ({"stem": "resnet", "stem_blocks": (3, 0)}, "Got stem_blocks=0"),
        ({"stem": "convolutions", "patch_size": 14}, "Got patch_size=14; try patch_size=16"),
        ({"cls_token": False}, "Got cls_token=False"),
        ({"distilled": True, "pooling": "mean"}, "Got pooling='mean'"),
        ({"dropout": 1.0}, "in [0, 1). Got dropout=1.0"),
        ({"stochastic_depth": "a lot"}, "Got stochastic_depth='a lot'"),
        ({"norm_epsilon": 0.0}, "Got norm_epsilon=0.0"),
        ({"width": 30, "heads": 3, "positions": "sincos2d"}, "Got width=30; try width=32"),
    ],
)
def test_wrong_values_are_refused_with_a_suggestion(wrong, message):
    with pytest.raises(InputError, match=re.escape(message)):
        ViTConfig.from_fields(**wrong)


def test_numpy_integers_become_python_integers():
    numbers: dict[str, Any] = {"num_classes": np.int64(10), "image_size": (np.int32(32), 48)}

    config = ViTConfig(**numbers)

    assert config == ViTConfig(num_classes=10, image_size=(32, 48))
    assert type(config.num_classes) is type(config.image_size[0]) is int
