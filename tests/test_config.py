"""Variants have the published sizes; configs no ViT can be built from are refused."""

import dataclasses
import re

import numpy as np
import pytest

import vit_keras
from vit_keras import VARIANTS, InputError, ViTConfig
from vit_keras.config import resolve_config

# With a 1000-class head at 224 px. The rows from Ti/16 to So400m/14 are what timm 1.0 counts for
# the same model; M/16, g/14, G/14 and this project's small ones come from `parameters` below.
PARAMETERS = {
    "vit_ti16": 5_717_416,
    "vit_s32": 22_878_952,
    "vit_s16": 22_050_664,
    "vit_s8": 22_055_272,
    "vit_b32": 88_224_232,
    "vit_b16": 86_567_656,
    "vit_b8": 86_576_872,
    "vit_l32": 306_535_400,
    "vit_l16": 304_326_632,
    "vit_h14": 632_045_800,
    "vit_so400m14": 413_597_656,
    "vit_m16": 38_837_736,
    "vit_g14": 1_012_611_432,
    "vit_gigantic14": 1_844_440_680,
    "vit_ti2": 7_943_080,
    "vit_ti4": 6_143_656,
    "vit_ti7": 5_757_160,
    "vit_mini4": 3_474_472,
    "vit_mini7": 3_087_976,
    "vit_mini8": 3_050_536,
    "vit_nano7": 544_488,
}
TOO_LARGE = {"vit_g14", "vit_gigantic14"}  # 4 and 7 GB of weights: by formula alone
SLOW = {"vit_m16", "vit_b32", "vit_b8", "vit_l32", "vit_l16", "vit_h14", "vit_so400m14"}


def parameters(config, side=224, classes=1000):
    """Counted by hand from the paper's equations 1-4, with a [CLS] token."""
    d, p = config.width, config.patch_size
    tokens = (side // p) ** 2 + 1
    embedding = (p * p * config.channels + 1) * d + d + tokens * d
    attention = 4 * (d * d + d)
    mlp = d * config.mlp_width + config.mlp_width + config.mlp_width * d + d
    block = attention + mlp + 2 * (2 * d)
    return embedding + config.depth * block + 2 * d + (d + 1) * classes


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_its_pinned_parameter_count(name):
    assert parameters(VARIANTS[name]) == PARAMETERS[name]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in VARIANTS
        if name not in TOO_LARGE
    ],
)
def test_built_variants_have_their_pinned_parameter_count(name):
    model = vit_keras.build_vit(name, image_size=224, num_classes=1000)

    assert model.count_params() == PARAMETERS[name]


def test_image_size_is_an_int_or_height_and_width():
    assert ViTConfig(image_size=32, patch_size=4).image_size == (32, 32)
    assert ViTConfig(image_size=(32, 64), patch_size=4).grid == (8, 16)


def test_config_survives_its_dictionary():
    config = ViTConfig(image_size=(32, 64), patch_size=4, pooling="mean", gelu="tanh")

    assert ViTConfig(**dataclasses.asdict(config)) == config


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
        ({"pooling": "max"}, "one of cls, mean. Got pooling='max'"),
        ({"positions": "rotary"}, "one of learned, sincos2d"),
        ({"shifted_patches": 2}, "one of False, True. Got shifted_patches=2"),
        ({"gelu": "quick"}, "one of exact, tanh"),
        ({"dropout": 1.0}, "in [0, 1). Got dropout=1.0"),
        ({"stochastic_depth": "a lot"}, "Got stochastic_depth='a lot'"),
        ({"norm_epsilon": 0.0}, "Got norm_epsilon=0.0"),
        ({"width": 30, "heads": 3, "positions": "sincos2d"}, "Got width=30; try width=32"),
    ],
)
def test_wrong_values_are_refused_with_what_to_try(wrong, message):
    with pytest.raises(InputError, match=re.escape(message)):
        ViTConfig(**wrong)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="Got 'vit_b61'; did you mean vit_b16"):
        resolve_config("vit_b61")
    with pytest.raises(InputError, match="no field 'pool'; did you mean pooling"):
        resolve_config("vit_b16", pool="mean")


def test_numpys_whole_numbers_are_welcome():
    config = ViTConfig(num_classes=np.int64(10), image_size=(np.int32(32), 48))

    assert config == ViTConfig(num_classes=10, image_size=(32, 48))
    assert type(config.num_classes) is type(config.image_size[0]) is int
