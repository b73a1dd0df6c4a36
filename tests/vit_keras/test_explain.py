"""Attention is what the originals computed, and rollout what NumPy makes of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.checkpoints import FIXTURES
from support.tiny import photograph, tiny_model

import vit_keras
from training.__main__ import main
from training.reports.attention import filters, heads, overlays, positions
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
CASES.remove("timm_prelogits")  # its attention was not kept
CASES += ["hf_vit", "hf_deit", "hf_deit_teacher", "hf_dinov2"]
FUSIONS = {"mean": np.mean, "max": np.max, "min": np.min}


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
def test_maps_are_what_the_original_computed(case):
    with np.load(FIXTURES / case / "io.npz") as io:
        expected = dict(io)

    model = from_weights(FIXTURES / case)
    maps = attention_maps(model, expected["images"])

    assert expected["attention"].std() > 0.02
    np.testing.assert_allclose(np.stack(maps), expected["attention"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("case", ["timm_plain", "timm_distilled", "timm_dinov2_reg"])
def test_rollout_of_cls_is_numpys(case, fusion):
    with np.load(FIXTURES / case / "io.npz") as io:
        rolled = numpy_rollout(io["attention"][:, 0].astype(float), fusion)
        images = io["images"]
    model = from_weights(FIXTURES / case)
    prefix = len(rolled) - 9  # a grid of 3x3
    rows = rolled[:2].mean(axis=0) if model.config.distilled else rolled[0]

    found = np.asarray(attention_rollout(model, images, fusion))

    expected = rows[prefix:] / rows[prefix:].sum()
    assert prefix == model.config.prefix_count
    np.testing.assert_allclose(found, expected.reshape(1, 3, 3), rtol=0, atol=1e-6)


def test_rollout_of_a_mean_counts_all_patches_and_leaves_registers_out():
    with np.load(FIXTURES / "timm_reg_gap" / "io.npz") as io:
        rolled, images = numpy_rollout(io["attention"][:, 0].astype(float)), io["images"]
    model = from_weights(FIXTURES / "timm_reg_gap")
    prefix = model.config.prefix_count

    found = np.asarray(attention_rollout(model, images))

    expected = rolled[prefix:, prefix:].mean(axis=0)
    assert prefix > 0
    np.testing.assert_allclose(found.ravel(), expected / expected.sum(), rtol=0, atol=1e-6)


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

    found = np.asarray(attention_rollout(model, images, fusion))

    expected = FUSIONS[fusion](probe, axis=0) @ rolled
    np.testing.assert_allclose(found.ravel(), expected / expected.sum(), rtol=0, atol=1e-6)


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
def test_every_model_has_a_map_of_its_grid_for_each_image(overrides):
    model = tiny_model(**overrides)
    images = images_for(model, 3)

    found = np.asarray(attention_rollout(model, images))

    assert found.shape == (3, *model.config.grid) == (3, 4, 6)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, atol=1e-6)
    assert found.std(axis=(1, 2)).min() > 1e-4
    for maps in attention_maps(model, images):
        np.testing.assert_allclose(np.sum(maps, axis=-1), 1, atol=1e-5)


def test_a_trimmed_model_has_the_rollout_of_the_whole_one():
    whole, trimmed = tiny_model(), tiny_model(trim_last_block=True)
    trimmed.set_weights(whole.get_weights())
    images = images_for(whole)

    expected = attention_rollout(whole, images)

    np.testing.assert_allclose(attention_rollout(trimmed, images), expected, atol=1e-6)
    assert attention_maps(trimmed, images)[-1].shape == (2, 3, 1, 25)


def test_looking_changes_nothing(tmp_path):
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


def test_what_has_no_rollout_says_so():
    merged = tiny_model(merge_tokens=2)
    images = images_for(merged)

    with pytest.raises(InputError, match="merged tokens belong to no single patch.*merge_tokens=2"):
        attention_rollout(merged, images)
    assert [maps.shape[-1] for maps in attention_maps(merged, images)] == [25, 23]
    with pytest.raises(InputError, match="one of mean, max, min. Got fusion='sum'"):
        attention_rollout(tiny_model(), images, "sum")
    with pytest.raises(InputError, match="build_vit"):
        attention_maps(keras.Sequential([keras.Input((2, 2, 3))]), images)


def test_similar_positions_are_found():
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


def test_filters_are_principal_components():
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


def test_overlays_are_drawn_over_what_the_model_sees():
    model = tiny_model(class_names=("ant", "bee", "c$t$", "dog", "elk"))
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3)).astype("float32")

    figure = overlays(model, images)

    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 10
    normalised = model.preprocessing.normalise(images)
    rollout = np.asarray(attention_rollout(model, normalised))
    answers = np.asarray(keras.ops.softmax(model(normalised)))
    for number, (image, over) in enumerate(zip(drawn[::2], drawn[1::2], strict=True)):
        np.testing.assert_allclose(image.images[0].get_array(), images[number] / 255, atol=1e-6)
        np.testing.assert_array_equal(over.images[1].get_array(), rollout[number])
        assert over.images[1].get_extent() == [-0.5, 23.5, 15.5, -0.5]  # the whole image
        name = model.class_names[answers[number].argmax()].replace("$", r"\$")
        assert image.get_title() == f"{name}, {answers[number].max():.0%}"


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_heads_are_those_of_what_is_read(pooling):
    model = tiny_model(pooling=pooling, registers=2)
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3)).astype("float32")
    maps = attention_maps(model, model.preprocessing.normalise(image))

    figure = heads(model, image)

    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 2 * 3
    last = np.asarray(maps[1])[0, 2]  # head 2 of block 1
    expected = last[0, 3:] if pooling == "cls" else last[2:, 2:].mean(axis=0)
    np.testing.assert_allclose(shown[5], expected.reshape(4, 6), atol=1e-6)


def test_pictures_of_positions_and_filters():
    model = tiny_model(image_size=(16, 48))

    shown = [axes.images[0].get_array() for axes in positions(model).axes if axes.images]
    assert len(shown) == 4 * 8  # of 4 x 12 patches
    np.testing.assert_allclose(shown[-1], position_similarity(model)[3, 11], atol=1e-6)
    assert sum(bool(axes.images) for axes in filters(model).axes) == 28


def test_the_command_writes_pictures_or_one_line(tmp_path, capsys):
    model = tiny_model()
    model.save(tmp_path / "model.keras")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        photograph(1, (200, 30, 30)).save(tmp_path / folder / "photo.jpg")
    given = [str(tmp_path / name) for name in ("model.keras", "a", "b/photo.jpg")]

    main(["explain", *given, "--out", str(tmp_path / "out"), "--fusion", "max"])

    names = ["photo-rollout", "photo-heads", "photo-2-rollout", "photo-2-heads"]
    written = [tmp_path / "out" / f"{name}.png" for name in (*names, "positions", "filters")]
    assert capsys.readouterr().out.split() == [str(path) for path in written]
    for path in written:
        with Image.open(path) as picture:
            assert min(picture.size) > 200
    (tmp_path / "b" / "broken.jpg").write_bytes(b"not an image")
    with pytest.raises(SystemExit, match="^Error: .*broken.jpg: Unknown image file format"):
        main(["explain", *given, str(tmp_path / "b"), "--out", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()
