"""Attention is what the originals computed, and rollout what NumPy makes of it."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.checkpoints import FIXTURES
from support.tiny import tiny_model

import vit_keras
from vit_keras import (
    InputError,
    attention_maps,
    attention_rollout,
    from_weights,
    patch_filters,
    position_similarity,
)
from vit_keras.explain import roll_out

CASES = [path.parent.name for path in sorted(FIXTURES.glob("timm_*/io.npz"))]
CASES.remove("timm_prelogits")  # its fixture has no attention
CASES += ["hf_vit", "hf_deit", "hf_deit_teacher", "hf_dinov2"]
FUSIONS: dict[str, Callable] = {"mean": np.mean, "max": np.max, "min": np.min}


def numpy_rollout(attention, fusion="mean"):
    """(blocks, heads, tokens, tokens) of one image -> (tokens, tokens); arXiv:2005.00928, (1)"""
    rolled = np.eye(attention.shape[-1])
    for weights in attention:
        fused = FUSIONS[fusion](weights, axis=0) + np.eye(len(rolled))
        rolled = (fused / fused.sum(axis=1, keepdims=True)) @ rolled
    return rolled


def images_for(model, count=2, seed=1):
    random = np.random.default_rng(seed)
    return random.standard_normal((count, *model.input_shape[1:]), "float32")


@pytest.mark.parametrize("case", CASES)
def test_attention_maps_equal_those_of_the_original_code(case):
    with np.load(FIXTURES / case / "io.npz") as io:
        expected = dict(io)

    model = from_weights(FIXTURES / case)
    maps = attention_maps(model, expected["images"])

    assert expected["attention"].std() > 0.02
    np.testing.assert_allclose(np.stack(maps), expected["attention"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("case", ["timm_plain", "timm_distilled", "timm_dinov2_reg"])
def test_rollout_of_cls_equals_numpy(case, fusion):
    with np.load(FIXTURES / case / "io.npz") as io:
        rolled = numpy_rollout(io["attention"][:, 0].astype(float), fusion)
        images = io["images"]
    model = from_weights(FIXTURES / case)
    prefix = len(rolled) - 9  # a grid of 3x3
    rows = rolled[:2].mean(axis=0) if model.config.distilled else rolled[0]

    rollout = np.asarray(attention_rollout(model, images, fusion))

    expected = rows[prefix:] / rows[prefix:].sum()
    assert prefix == model.config.prefix_count
    np.testing.assert_allclose(rollout, expected.reshape(1, 3, 3), rtol=0, atol=1e-6)


def test_rollout_of_mean_pooling_averages_patches_and_ignores_registers():
    with np.load(FIXTURES / "timm_reg_gap" / "io.npz") as io:
        rolled, images = numpy_rollout(io["attention"][:, 0].astype(float)), io["images"]
    model = from_weights(FIXTURES / "timm_reg_gap")
    prefix = model.config.prefix_count

    rollout = np.asarray(attention_rollout(model, images))

    expected = rolled[prefix:, prefix:].mean(axis=0)
    assert prefix > 0
    np.testing.assert_allclose(rollout.ravel(), expected / expected.sum(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_rollout_of_attention_pooling_is_weighted_by_the_probe(fusion):
    with np.load(FIXTURES / "timm_siglip" / "io.npz") as io:
        rolled = numpy_rollout(io["attention"][:, 0].astype(float), fusion)
        tokens, images = io["tokens"][0].astype(float), io["images"]
    model = from_weights(FIXTURES / "timm_siglip")
    pool, (heads, width) = model.get_layer("pool"), (model.config.block.heads, model.config.width)
    query = np.asarray(pool.probe)[0] @ pool.query.kernel + pool.query.bias
    key = (tokens @ pool.key_value.kernel + pool.key_value.bias)[:, :width]
    query, key = (x.reshape(-1, heads, width // heads) for x in (query, key))
    scores = np.exp(np.einsum("qhd,khd->hk", query, key) / (width // heads) ** 0.5)
    probe = scores / scores.sum(axis=1, keepdims=True)

    rollout = np.asarray(attention_rollout(model, images, fusion))

    expected = FUSIONS[fusion](probe, axis=0) @ rolled
    np.testing.assert_allclose(rollout.ravel(), expected / expected.sum(), rtol=0, atol=1e-6)


def test_roll_out_by_hand():
    # Two tokens. Block 1: A + I = [[1.5, 0.5], [1, 1]], rows / 2; block 2: A = I, which stays I.
    first, second = [[0.5, 0.5], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]

    rolled = roll_out([keras.ops.convert_to_tensor([x], "float32") for x in (first, second)])

    np.testing.assert_allclose(rolled, [[[0.75, 0.25], [0.5, 0.5]]])


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"pooling": "mean", "registers": 3},
        {"pooling": "map", "cls_token": True},
        {"pooling": "sequence"},
        {"distilled": True},
        {"stem": "shifted_patches", "locality_attention": True},
        {"stem": "resnet", "stem_blocks": (), "patch_size": 4},
        {"trim_last_block": True},
        {"patch_dropout": 0.5},
    ],
    ids=str,
)
def test_rollout_has_one_map_per_image_for_every_option(overrides):
    model = tiny_model(**overrides)
    images = images_for(model, 3)

    rollout = np.asarray(attention_rollout(model, images))

    assert rollout.shape == (3, *model.config.grid) == (3, 4, 6)
    np.testing.assert_allclose(rollout.sum(axis=(1, 2)), 1, atol=1e-6)
    assert rollout.std(axis=(1, 2)).min() > 1e-4
    for maps in attention_maps(model, images):
        np.testing.assert_allclose(np.sum(maps, axis=-1), 1, atol=1e-5)


def test_rollout_is_the_same_with_a_trimmed_last_block():
    model, trimmed = tiny_model(), tiny_model(trim_last_block=True)
    trimmed.set_weights(model.get_weights())
    images = images_for(model)

    expected = attention_rollout(model, images)

    np.testing.assert_allclose(attention_rollout(trimmed, images), expected, atol=1e-6)
    assert attention_maps(trimmed, images)[-1].shape == (2, 3, 1, 25)


def test_rollout_does_not_change_the_model(tmp_path):
    model = tiny_model()
    images = images_for(model)
    before = model.to_json(), [np.asarray(weight) for weight in model.get_weights()]
    answer = model.predict(images, verbose=0)

    attention_rollout(model, images)
    model.save(tmp_path / "model.keras")

    assert model.to_json() == before[0]
    for now, then in zip(model.get_weights(), before[1], strict=True):
        np.testing.assert_array_equal(now, then)
    np.testing.assert_array_equal(model.predict(images, verbose=0), answer)
    loaded = vit_keras.load_model(tmp_path / "model.keras")
    rollouts = [attention_rollout(each, images) for each in (model, loaded)]
    np.testing.assert_array_equal(*rollouts)


def test_rollout_works_in_graphs_and_in_half_precision():
    model = tiny_model()
    images = images_for(model)

    graph = tf.function(lambda images: attention_rollout(model, images))(images)

    np.testing.assert_allclose(graph, attention_rollout(model, images), atol=1e-6)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = tiny_model()
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    np.testing.assert_allclose(attention_rollout(half, images), graph, atol=2e-3)


def test_models_without_a_rollout_are_refused():
    merged = tiny_model(merge_tokens=2)
    images = images_for(merged)

    with pytest.raises(InputError, match="merged tokens belong to no single patch.*merge_tokens=2"):
        attention_rollout(merged, images)
    assert [maps.shape[-1] for maps in attention_maps(merged, images)] == [25, 23]
    with pytest.raises(InputError, match="one of mean, max, min. Got fusion='sum'"):
        attention_rollout(tiny_model(), images, "sum")
    with pytest.raises(InputError, match="build_vit"):
        attention_maps(keras.Sequential([keras.Input((2, 2, 3))]), images)


def test_position_similarity_is_the_cosine_of_two_rows():
    model = tiny_model()
    encoder = model.get_layer("patch_encoder")
    table = np.random.default_rng(0).standard_normal((1, 25, 48)).astype("float32")
    table[0, 1 + 2 * 6 + 5] = 3 * table[0, 1 + 6]  # of the patches in (2, 5) and (1, 0)
    encoder.position_table.assign(table)

    similarity = position_similarity(model)

    assert similarity.shape == (4, 6, 4, 6)
    assert similarity[2, 5, 1, 0] == pytest.approx(1)
    assert similarity[0, 0, 3, 3] == pytest.approx(
        table[0, 1] @ table[0, 22] / np.linalg.norm(table[0, 1]) / np.linalg.norm(table[0, 22])
    )
    fixed = position_similarity(tiny_model(positions="sincos2d"))
    assert fixed[1, 2, 1, 3] == pytest.approx(fixed[2, 2, 2, 3])  # the same distance
    without_prefix = tiny_model(prefix_positions=False)
    assert position_similarity(without_prefix).shape == (4, 6, 4, 6)


def test_patch_filters_are_principal_components():
    model = tiny_model()
    kernel = np.zeros((4, 4, 3, 48), "float32")
    kernel[0, 0, 0] = 3 * np.resize([1, -1], 48)  # in half of the filters the opposite
    kernel[3, 2, 1] = np.resize([1, 1, -1, -1], 48)
    model.get_layer("patch_encoder").projection.kernel.assign(kernel.reshape(48, 48))

    filters = patch_filters(model, 2)

    expected = np.zeros((2, 4, 4, 3))
    expected[0, 0, 0, 0] = expected[1, 3, 2, 1] = 1
    np.testing.assert_allclose(filters, expected, atol=1e-6)
    assert patch_filters(tiny_model(stem="shifted_patches")).shape == (28, 4, 4, 3)
    assert patch_filters(tiny_model(channels=1, num_classes=2), 99).shape == (16, 4, 4, 1)
    with pytest.raises(InputError, match="a projection of pixels. Got stem='resnet'"):
        patch_filters(tiny_model(stem="resnet", stem_blocks=()))
