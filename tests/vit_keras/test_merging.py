"""Token merging is the paper's algorithm, and a trimmed last block changes nothing."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from support.tiny import TINY, randomise, tiny_model

import vit_keras
from vit_keras import InputError
from vit_keras.layers.merging import alternate, merge


def numpy_merge(tokens, sizes, keys, count, prefix):
    """One image, pair by pair: tokens (n, width), sizes (n,), keys (heads, n, d) -> {patch: row}

    Returns the prefix, and the merged tokens and their sizes by the row of one of their patches.
    """
    metric = keys.mean(axis=0)
    metric = metric / np.sqrt((metric**2).sum(axis=1, keepdims=True) + 1e-6)
    rows = range(prefix, len(tokens))
    first, second = list(rows)[::2], list(rows)[1::2]
    pairs = []
    for row in first:
        similarities = [metric[row] @ metric[other] for other in second]
        pairs.append((max(similarities), row, second[int(np.argmax(similarities))]))
    groups = {row: [row] for row in second}
    for _, row, other in sorted(pairs, reverse=True)[:count]:
        groups[other].append(row)
    for _, row, _ in sorted(pairs, reverse=True)[count:]:
        groups[row] = [row]
    total = {row: sum(sizes[member] for member in members) for row, members in groups.items()}
    means = {
        row: sum(tokens[member] * sizes[member] for member in members) / total[row]
        for row, members in groups.items()
    }
    return tokens[:prefix], means, total


@pytest.mark.parametrize(
    ("prefix", "patches", "count"), [(0, 6, 2), (1, 9, 4), (3, 7, 3), (1, 8, 1)]
)
def test_merging_equals_a_loop_over_pairs(prefix, patches, count):
    random = np.random.default_rng(0)
    tokens = random.standard_normal((2, prefix + patches, 5)).astype("float32")
    sizes = random.integers(1, 5, (2, prefix + patches, 1)).astype("float32")
    keys = random.standard_normal((2, 3, prefix + patches, 4)).astype("float32")

    merged, merged_sizes = map(np.asarray, merge(tokens, sizes, keys, count, prefix))

    assert merged.shape == (2, prefix + patches - count, 5)
    assert merged_sizes.shape == (2, prefix + patches - count, 1)
    for image in range(2):
        prefix_tokens, means, total = numpy_merge(
            tokens[image], sizes[image, :, 0], keys[image], count, prefix
        )
        np.testing.assert_allclose(merged[image, :prefix], prefix_tokens, rtol=1e-6)
        order = np.lexsort(merged[image, prefix:].T)
        expected = np.stack(list(means.values()))
        expected_order = np.lexsort(expected.T)
        np.testing.assert_allclose(
            merged[image, prefix:][order], expected[expected_order], rtol=1e-5
        )
        expected_sizes = np.array(list(total.values()))[expected_order]
        np.testing.assert_allclose(merged_sizes[image, prefix:, 0][order], expected_sizes)


def test_the_two_most_similar_patches_become_their_weighted_mean():
    # Patches 0 and 2 against 1 and 3: keys 0 and 3 are equal, 2 is like nothing.
    keys = np.array([[1, 0], [0, 1], [-1, -1], [1, 0]], "float32")[np.newaxis, np.newaxis]
    tokens = np.array([[2], [10], [20], [6]], "float32")[np.newaxis]
    sizes = np.array([[3], [1], [1], [1]], "float32")[np.newaxis]

    merged, sizes = merge(tokens, sizes, keys, 1)

    assert np.asarray(merged)[0, :, 0].tolist() == [20, 10, 3]  # (3 * 2 + 6) / 4
    assert np.asarray(sizes)[0, :, 0].tolist() == [1, 1, 4]


def test_rows_are_dealt_alternately():
    x = np.arange(10).reshape(1, 5, 2)

    first, second = (np.asarray(part)[0].tolist() for part in alternate(x))

    assert first == [[0, 1], [4, 5], [8, 9]]
    assert second == [[2, 3], [6, 7]]


def test_tokens_that_are_left_are_sorted_by_similarity_and_equal_ones_by_place():
    # The partners 1, 3, 5, 7 have one key. 0 and 4 have it, too; 2 is less similar, 6 the least.
    keys = np.array([[1, 0], [1, 0], [1, 1], [1, 0], [1, 0], [1, 0], [0, 1], [1, 0]], "float32")
    tokens = np.arange(8, dtype="float32").reshape(1, 8, 1)

    merged, sizes = merge(tokens, np.ones_like(tokens), keys[None, None], 1)

    # 0 joins 1, the first of equal partners; 4, 2 and 6 are left.
    assert np.asarray(merged)[0, :, 0].tolist() == [4, 2, 6, 0.5, 3, 5, 7]
    assert np.asarray(sizes)[0, :, 0].tolist() == [1, 1, 1, 2, 1, 1, 1]


def images(model, count=3):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(1).standard_normal(shape).astype("float32")


@pytest.mark.parametrize("options", [{}, {"distilled": True, "registers": 2, "layer_scale": 0.1}])
def test_a_trimmed_last_block_gives_the_same_logits(options):
    model = tiny_model(**options)
    config = model.config.replace(trim_last_block=True)
    trimmed = vit_keras.build_vit(config)
    trimmed.set_weights(model.get_weights())

    assert trimmed.get_layer("block_1").output.shape[1] == 1 + bool(options)
    np.testing.assert_allclose(trimmed(images(model)), model(images(model)), atol=1e-5)
    with pytest.raises(InputError, match="takes pooling='cls'. Got pooling='mean'"):
        vit_keras.build_vit(config, distilled=False, pooling="mean")


FAMILY: list[dict[str, Any]] = [
    {},
    {"distilled": True, "registers": 2},
    {"pooling": "mean"},
    {"pooling": "mean", "registers": 3, "norm_after_pooling": True},
    {"pooling": "map"},
    {"pooling": "sequence", "stem": "convolutions"},
    {"qk_norm": True, "locality_attention": True, "stem": "shifted_patches"},
]


@pytest.mark.parametrize("options", FAMILY)
def test_every_option_works_with_merging_and_existing_weights(options, tmp_path):
    model = tiny_model(**options)
    prefix = model.config.prefix_count
    merging = vit_keras.build_vit(model.config.replace(merge_tokens=4))
    merging.set_weights(model.get_weights())

    tokens, sizes = merging.get_layer("block_1").output
    assert tokens.shape == (None, prefix + 24 - 2 * 4, 48)
    assert sizes.shape == (None, prefix + 24 - 2 * 4, 1)
    logits = np.asarray(merging(images(model)))
    reloaded = merging
    for _ in range(2):
        reloaded.save(tmp_path / "model.keras")
        reloaded = vit_keras.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(images(model)), logits)
    assert reloaded.config == merging.config


def test_merging_equal_patches_does_not_change_the_logits():
    # All patches of an image are equal, positions too.
    for options in FAMILY[:5]:
        model = tiny_model(positions="sincos2d", **options)
        merging = vit_keras.build_vit(model.config.replace(merge_tokens=5))
        merging.set_weights(model.get_weights())
        encoder = model.get_layer("patch_encoder")
        prefix = model.config.prefix_count
        one = np.random.default_rng(2).standard_normal((2, 1, 48)).astype("float32")
        prefix_table = [*(encoder.prefix_table if prefix else [])]
        parts = [np.tile(token, (2, 1, 1)) for token in prefix_table] + [np.tile(one, (1, 24, 1))]
        tokens = np.concatenate(parts, axis=1)
        first = model.get_layer("block_0").input
        model_from_tokens = keras.Model(first, model.output)
        merged = keras.Model(merging.get_layer("block_0").input, merging.output)

        np.testing.assert_allclose(merged(tokens), model_from_tokens(tokens), atol=2e-5)


def test_at_most_half_of_the_patches_are_merged():
    model = tiny_model(merge_tokens=1000)

    shapes = [model.get_layer(f"block_{i}").output[0].shape[1] for i in range(2)]

    assert shapes == [1 + 12, 1 + 6]
    assert np.isfinite(np.asarray(model(images(model)))).all()


def test_a_square_image_can_be_merged_to_a_single_patch():
    model = tiny_model(image_size=8, depth=3, merge_tokens=9)

    assert model.get_layer("block_2").output[0].shape[1] == 1 + 1  # 4, 2, 1 patches


@pytest.mark.parametrize("value", [-1, 2.5, True, "4"])
def test_impossible_merge_tokens_are_refused(value):
    with pytest.raises(InputError, match="merge_tokens must be a whole number of at least 0"):
        vit_keras.ViTConfig(merge_tokens=value)


def test_masked_models_refuse_merge_tokens():
    for build in (vit_keras.build_mae, vit_keras.build_mim):
        with pytest.raises(InputError, match="every token in its place. Got merge_tokens=2"):
            build("vit_b16", image_size=16, **TINY, merge_tokens=2)


def test_gradients_reach_every_weight_through_merged_tokens():
    import tensorflow as tf

    model = randomise(tiny_model(merge_tokens=6, patch_dropout=0.25, pooling="mean"))
    with tf.GradientTape() as tape:
        loss = ops.sum(ops.square(model(images(model), training=True)))
    gradients = tape.gradient(loss, model.trainable_variables)

    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(np.asarray(gradient)).all(), variable.path
        assert np.abs(np.asarray(gradient)).max() > 0, variable.path


def test_saved_models_load_with_merging_and_other_formats_warn(tmp_path, caplog):
    model = tiny_model()
    model.save(tmp_path / "model.keras")

    merging = vit_keras.from_weights(tmp_path / "model.keras", merge_tokens=5)

    assert merging.get_layer("block_1").output[0].shape[1] == 1 + 24 - 2 * 5
    np.testing.assert_array_equal(merging.get_weights()[3], model.get_weights()[3])
    vit_keras.save_weights(merging, tmp_path / "weights.npz", format="google")
    assert "google files do not contain merge_tokens: their readers compute with 0" in caplog.text


def test_an_encoder_can_merge_after_masked_pre_training():
    mae = vit_keras.build_mae("vit_b16", image_size=(16, 24), **TINY)

    tuned = vit_keras.from_weights(mae, num_classes=3, merge_tokens=3)

    assert tuned.get_layer("block_1").output[0].shape[1] == 1 + 24 - 2 * 3


def test_merging_large_tokens_does_not_overflow_in_half_precision():
    tokens = np.full((1, 8, 4), 3e4, "float16")
    sizes = np.full((1, 8, 1), 9, "float16")

    merged, _ = merge(tokens, sizes, np.ones((1, 1, 8, 4), "float16"), 2)

    np.testing.assert_array_equal(np.asarray(merged), np.full((1, 6, 4), 3e4, "float16"))


def test_half_precision_counts_patches_exactly():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny_model(merge_tokens=6, pooling="mean")
    finally:
        keras.config.set_dtype_policy("float32")
    _, sizes = keras.Model(model.input, model.get_layer("block_1").output)(images(model))

    assert np.asarray(ops.sum(ops.cast(sizes, "float32"), axis=1)).tolist() == [[24.0]] * 3
