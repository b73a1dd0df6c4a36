"""Google's and big_vision's files give the logits that a NumPy ViT computes from them."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support import numpy_vit

import vit_keras
from vit_keras import InputError, from_weights, get_config

TOLERANCE = 2e-5
IMAGES = np.random.default_rng(5).standard_normal((2, 24, 24, 3)).astype("float32")


def renumbered(arrays):
    """The names of a newer Flax, which numbers each kind of layer separately."""
    names = {"Attention_1": "Attention_0", "LayerNorm_2": "LayerNorm_1", "MlpBlock_3": "MlpBlock_0"}
    renamed = {}
    for name, array in arrays.items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = array
    return renamed


def prefixed(prefix, arrays):
    return {prefix + name: array for name, array in arrays.items()}


def big_vision(arrays):
    """The names of big_vision: renumbered, with the positions at the top."""
    moved = {"Transformer/posembed_input/pos_embedding": "pos_embedding"}
    return {moved.get(name, name): array for name, array in renumbered(arrays).items()}


def scanned(arrays):
    """All blocks in one array, on axis 0."""
    stacked, depth = {}, 2
    for name, array in big_vision(arrays).items():
        if "encoderblock_0/" in name:
            parts = [
                big_vision(arrays)[name.replace("encoderblock_0", f"encoderblock_{index}")]
                for index in range(depth)
            ]
            stacked[name.replace("encoderblock_0", "encoderblock")] = np.stack(parts)
        elif "encoderblock_" not in name:
            stacked[name] = array
    return stacked


# {case: (options of random_arrays, how its arrays are renamed)}
CASES: dict[str, tuple[dict[str, Any], Callable]] = {
    "token": ({}, lambda a: a),
    "mean pooling": ({"pooling": "gap"}, lambda a: a),
    "pre_logits": ({"head_width": 12}, lambda a: a),
    "no head": ({"classes": 0}, lambda a: a),
    "renumbered": ({}, renumbered),
    "opt/target": ({}, lambda a: {**prefixed("opt/target/", a), "opt/state/step": np.zeros(())}),
    "big_vision": ({"pooling": "gap"}, lambda a: prefixed("params/", big_vision(a))),
    "big_vision's [CLS] has no position": (
        {"prefix_positions": False},
        lambda a: prefixed("params/", big_vision(a)),
    ),
    "sincos2d": (
        {"pooling": "gap", "positions": False},
        lambda a: prefixed("params/", big_vision(a)),
    ),
    "two towers": (
        {"pooling": "map", "classes": 0},
        lambda a: {**prefixed("params/img/", big_vision(a)), "params/txt/head/bias": np.ones(3)},
    ),
    "scanned": ({"pooling": "map"}, lambda a: prefixed("params/", scanned(a))),
    "hybrid root": ({"stem": (), "patch": 2}, lambda a: a),
    "hybrid stages": ({"stem": (1, 2), "patch": 1}, lambda a: a),
}


@pytest.mark.parametrize("case", CASES)
def test_google_files_give_the_numpy_vits_logits(case, tmp_path):
    options, rename = CASES[case]
    arrays = numpy_vit.random_arrays(**options)
    np.savez(tmp_path / "weights.npz", **rename(arrays))

    model = from_weights(tmp_path / "weights.npz", image_size=24 if case == "sincos2d" else None)

    assert model.input_shape == (None, 24, 24, 3)
    expected = numpy_vit.forward(arrays, IMAGES)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(model(IMAGES), expected, rtol=0, atol=TOLERANCE)


def test_another_epsilon_or_gelu_changes_the_outputs(tmp_path):
    arrays = numpy_vit.random_arrays()
    np.savez(tmp_path / "weights.npz", **arrays)
    expected = numpy_vit.forward(arrays, IMAGES)

    for wrong in ({"gelu": "exact"}, {"norm_epsilon": 1e-5}):
        model = from_weights(tmp_path / "weights.npz", **wrong)
        assert np.abs(model(IMAGES) - expected).max() > 2 * TOLERANCE


def test_bfloat16_is_read_from_its_raw_two_bytes(tmp_path):
    arrays = numpy_vit.random_arrays()
    halves = {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()}
    np.savez(tmp_path / "weights.npz", **{n: a.view("V2") for n, a in halves.items()})

    model = from_weights(tmp_path / "weights.npz")

    expected = numpy_vit.forward({n: a.astype("float32") for n, a in halves.items()}, IMAGES)
    np.testing.assert_allclose(model(IMAGES), expected, rtol=0, atol=TOLERANCE)


def test_a_grid_that_is_not_square_needs_an_image_size(tmp_path):
    arrays = numpy_vit.random_arrays(grid=(2, 3))
    np.savez(tmp_path / "weights.npz", **arrays)
    images = IMAGES[:, :16]

    with pytest.raises(
        InputError, match="6 patches do not form a square grid; pass weights_image_size"
    ):
        from_weights(tmp_path / "weights.npz")
    for option in ("image_size", "weights_image_size"):
        sizes: dict[str, Any] = {option: (16, 24)}
        model = from_weights(tmp_path / "weights.npz", **sizes)
        expected = numpy_vit.forward(arrays, images)
        np.testing.assert_allclose(model(images), expected, rtol=0, atol=TOLERANCE)


def test_fixed_positions_need_an_image_size(tmp_path):
    arrays = numpy_vit.random_arrays(pooling="gap", positions=False)
    np.savez(tmp_path / "weights.npz", **arrays)

    with pytest.raises(InputError, match="fixed positions .* pass image_size"):
        from_weights(tmp_path / "weights.npz")
    model = from_weights(tmp_path / "weights.npz", image_size=(16, 32))
    images = np.random.default_rng(0).standard_normal((1, 16, 32, 3)).astype("float32")
    expected = numpy_vit.forward(arrays, images)
    np.testing.assert_allclose(model(images), expected, rtol=0, atol=TOLERANCE)


def test_hybrids_keep_their_shape_in_the_config(tmp_path):
    np.savez(tmp_path / "weights.npz", **numpy_vit.random_arrays(stem=(1, 2), patch=1))

    config = get_config(from_weights(tmp_path / "weights.npz"))

    assert (config.stem, config.stem_width, config.stem_blocks) == ("resnet", 32, (1, 2))
    assert config.patch_size == 8


def test_saved_google_files_are_the_arrays_they_came_from(tmp_path):
    cases: dict[str, dict[str, Any]] = {
        "plain": {},
        "map": {"pooling": "map"},
        "pre_logits": {"head_width": 12},
        "hybrid": {"stem": (1, 2), "patch": 1},
    }
    for case, options in cases.items():
        arrays = numpy_vit.random_arrays(**options)
        np.savez(tmp_path / "weights.npz", **arrays)
        model = from_weights(tmp_path / "weights.npz")

        vit_keras.save_weights(model, tmp_path / "again.npz", format="google")

        with np.load(tmp_path / "again.npz") as again:
            assert set(again.files) == set(arrays), case
            for name, array in arrays.items():
                np.testing.assert_array_equal(again[name], array)
