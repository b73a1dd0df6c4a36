"""Variants have the published sizes."""

import itertools

import numpy as np
import pytest

import vit_keras
from vit_keras import VARIANTS, InputError
from vit_keras.variants import resolve_config

# With a 1000-class head (two in the distilled) at 224 px, counted by `parameters` below. timm 1.0
# counts the same for the vit_* rows up to So400m/14, the hybrids, DeiT, DeiT III, SigLIP, CLIP and
# DINOv2.
PARAMETERS = {
    "vit_ti16": 5_717_416,
    "vit_s32": 22_878_952,
    "vit_s16": 22_050_664,
    "vit_b32": 88_224_232,
    "vit_b16": 86_567_656,
    "vit_l32": 306_535_400,
    "vit_l16": 304_326_632,
    "vit_h14": 632_045_800,
    "vit_s8": 22_055_272,
    "vit_b8": 86_576_872,
    "vit_m16": 38_837_736,
    "vit_g14": 1_012_611_432,
    "vit_gigantic14": 1_844_440_680,
    "vit_so400m14": 413_597_656,
    "vit_r_ti16": 6_337_704,
    "vit_r26_s32": 36_431_912,
    "vit_r50_b16": 98_659_112,
    "vit_r50_l32": 328_994_856,
    "deit_ti16": 5_717_416,
    "deit_ti16_distilled": 5_910_800,
    "deit_s16": 22_050_664,
    "deit_s16_distilled": 22_436_432,
    "deit_b16": 86_567_656,
    "deit_b16_distilled": 87_338_192,
    "deit3_s16": 22_059_496,
    "deit3_b16": 86_585_320,
    "deit3_l16": 304_374_760,
    "deit3_h14": 632_126_440,
    "simple_vit_ti16": 5_679_400,
    "simple_vit_s16": 21_974_632,
    "simple_vit_b16": 86_415_592,
    "simple_vit_l16": 304_123_880,
    "siglip_b16": 93_653_224,
    "siglip_l16": 316_919_784,
    "siglip_so400m14": 428_833_704,
    "clip_b32": 88_225_000,
    "clip_b16": 86_568_424,
    "clip_l14": 304_204_776,
    "dinov2_s14": 22_013_800,
    "dinov2_s14_registers": 22_014_952,
    "dinov2_b14": 86_493_928,
    "dinov2_b14_registers": 86_496_232,
    "dinov2_l14": 304_252_904,
    "dinov2_l14_registers": 304_255_976,
    "dinov2_g14": 1_136_306_664,
    "dinov2_g14_registers": 1_136_311_272,
    "sl_vit_ti8": 3_198_868,
    "cct_2_3x2": 804_649,
    "cct_mini_3x2": 575_849,
    "cct_7_3x1": 7_160_297,
    "cct_14_7x2": 22_367_273,
    "vit_ti2": 7_943_080,
    "vit_ti4": 6_143_656,
    "vit_ti7": 5_757_160,
    "vit_mini4": 3_474_472,
    "vit_mini7": 3_087_976,
    "vit_mini8": 3_050_536,
    "vit_nano7": 544_488,
}
# As published, in the sources' own settings.
PUBLISHED = [
    ("deit_ti16_distilled", {}, 5_910_800),
    ("deit_s16_distilled", {}, 22_436_432),
    ("deit_b16_distilled", {}, 87_338_192),
    ("deit3_s16", {}, 22_059_496),
    ("deit3_b16", {}, 86_585_320),
    ("deit3_l16", {}, 304_374_760),
    ("deit3_h14", {}, 632_126_440),
    ("simple_vit_s16", {}, 21_974_632),
    ("siglip_b16", {"num_classes": 0}, 92_884_224),
    ("dinov2_b14", {"num_classes": 0}, 86_579_712),
    ("dinov2_g14", {"num_classes": 0}, 1_136_479_232),
]
SMALL = 3_300_000  # parameters; larger models are built by the slow tests, up to LARGE
LARGE = 100_000_000  # above, by formula alone


def parameters(config):
    """Counts by hand: equations 1-4 of the paper, and the weights that each option adds."""
    d, p, c = config.width, config.patch_size, config.channels
    options, hidden = config.block, config.block.mlp_width
    prefix = config.prefix_count
    mlp = (2 if options.swiglu else 1) * (d + 1) * hidden + (hidden + 1) * d
    block = 3 * d * (d + options.qkv_bias) + (d + 1) * d + mlp + 2 * (2 * d)
    block += bool(options.layer_scale) * 2 * d + options.qk_norm * 4 * (d // options.heads)
    block += options.locality_attention * options.heads
    patch, stem = p * p * c, 0
    if config.stem == "shifted_patches":
        patch *= 5
        stem = 2 * patch
    if config.stem == "resnet":
        stem, features = _resnet(c, config.stem_width, config.stem_blocks)
        patch = (p // config.stem_stride) ** 2 * features
    embedding = stem + (patch + (not config.pre_norm)) * d
    if config.stem == "convolutions":
        channels = [c, *[config.stem_width] * (config.stem_layers - 1), d]
        embedding = sum(config.stem_kernel**2 * a * b for a, b in itertools.pairwise(channels))
    table = np.prod(config.grid) + prefix * config.prefix_positions
    positions = table * d if config.positions == "learned" else 0
    pool = {
        "map": d + 4 * (d + 1) * d + 2 * d + (d + 1) * hidden + (hidden + 1) * d,
        "sequence": d + 1,
    }.get(config.pooling, 0)
    norms = 2 * d * (1 + config.pre_norm)
    heads = (d + 1) * config.num_classes * (1 + config.distilled)
    return embedding + prefix * d + positions + config.depth * block + norms + pool + heads


def _resnet(channels, width, blocks):
    """Parameters of BiT's ResNet, and its output channels; each GroupNorm has 2 per channel"""
    total, features = 7 * 7 * channels * width + 2 * width, width
    for stage, units in enumerate(blocks):
        inner, outer = width * 2**stage, 4 * width * 2**stage
        for unit in range(units):
            total += (features + 9 * inner + outer) * inner + 2 * (2 * inner + outer)
            total += features * outer + 2 * outer if unit == 0 else 0
            features = outer
    return total, features


def marked(cases):
    """(name, overrides, count), those of large models marked as slow, without the largest"""
    for name, overrides, count in cases:
        if count < LARGE:
            marks = [pytest.mark.slow] if count > SMALL else []
            yield pytest.param(name, overrides, count, marks=marks, id=name)


AT_224 = {"image_size": 224, "num_classes": 1000}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_the_expected_parameter_count(name):
    assert parameters(resolve_config(name, **AT_224)) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "overrides", "count"), PUBLISHED)
def test_variants_have_the_published_parameter_count(name, overrides, count):
    assert parameters(resolve_config(name, **overrides)) == count


@pytest.mark.parametrize(
    ("name", "overrides", "count"),
    list(marked([*((name, AT_224, count) for name, count in PARAMETERS.items()), *PUBLISHED])),
)
def test_built_models_have_the_parameters_counted_by_hand(name, overrides, count):
    assert vit_keras.build_vit(name, **overrides).count_params() == count


def test_unknown_names_are_refused_with_the_nearest_names():
    with pytest.raises(InputError, match="Got 'vit_b61'; did you mean vit_b16"):
        resolve_config("vit_b61")
    with pytest.raises(InputError, match="no field 'pool'; did you mean pooling"):
        resolve_config("vit_b16", pool="mean")
