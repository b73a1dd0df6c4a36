"""Damaged settings and arrays are InputErrors; a defect of the library keeps its traceback."""

import contextlib
import dataclasses
import json
import shutil
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support import numpy_vit
from support.checkpoints import FIXTURES, PLAIN, changed_checkpoint

from vit_keras import InputError, from_weights, load_weights
from vit_keras.weights import read
from vit_keras.weights.checkpoint import read_checkpoint
from vit_keras.weights.read import read_weights

NOT_A_NUMBER: tuple[object, ...] = ("1", [], {}, True, None)
NOT_A_COUNT = (*NOT_A_NUMBER, 0, -2, 1.5)
NOT_A_RATIO = (*NOT_A_NUMBER, 0, -1, float("nan"), 10**400)
NOT_A_SWITCH: tuple[object, ...] = ("true", 0, None, [])
NOT_A_TEXT: tuple[object, ...] = (1, ["gelu"], {})
NOT_A_SIZE = ("24", -24, 0, 24.0, [24], [24, "24"], [24, 24, 24], {"height": 24})
NOT_COLOURS: tuple[object, ...] = ("0.5", 0.5, [], ["0.5"] * 3, [[0.5]] * 3, [float("inf")] * 3)
# {(fixture, file, object of the file or None): {setting: values that are refused}}
WRONG_SETTINGS: dict[tuple[str, str, str | None], dict[str, tuple[object, ...]]] = {
    ("hf_vit", "config.json", None): {
        "layer_norm_eps": NOT_A_RATIO,
        "num_attention_heads": (*NOT_A_COUNT, 3),
        "hidden_act": (*NOT_A_TEXT, "relu"),
        "image_size": NOT_A_SIZE,
        "id2label": (["a"], "a", {"a": "b"}, {"-1": "b"}, {"0": None}, {"0": ["x"]}),
        "model_type": NOT_A_TEXT,
    },
    ("hf_vit", "preprocessor_config.json", None): {
        "image_mean": (*NOT_COLOURS, [0.5]),
        "image_std": (*NOT_COLOURS, [0.5], [0, 0, 0], [-1, 1, 1]),
        "rescale_factor": ("1", [], 0, -1, True),
        "do_rescale": ("true", 0, []),
        "do_normalize": ("true", 0, []),
        "do_center_crop": ("true", 0, []),
        "resample": ("3", [], -1, 1.5),
        "size": ("24", -24, [24], {"height": "24"}, {"shortest_edge": [24]}, {"shortest_edge": 0}),
        "crop_size": ("24", -24, [24], {"height": "24", "width": 24}),
    },
    ("hf_mae", "config.json", None): {
        "decoder_num_attention_heads": (*NOT_A_COUNT, 3),
        "mask_ratio": (*NOT_A_RATIO, 1, 2),
        "norm_pix_loss": NOT_A_SWITCH,
    },
    ("timm_clip_quick", "config.json", None): {
        "architecture": NOT_A_TEXT,
        "model_args": ([], "x", 1),
        "pretrained_cfg": ([], "x", 1),
    },
    ("timm_clip_quick", "config.json", "model_args"): {
        "num_heads": (*NOT_A_COUNT, 3),
        "img_size": NOT_A_SIZE,
        "act_layer": (*NOT_A_TEXT, "relu"),
        "global_pool": (*NOT_A_TEXT, "max"),
        "pool_include_prefix": (*NOT_A_SWITCH, True),
    },
    ("timm_clip_quick", "config.json", "pretrained_cfg"): {
        "mean": (*NOT_COLOURS, [0.5]),
        "std": (*NOT_COLOURS, [0.5], [0, 0, 0], [-1, 1, 1]),
        "crop_pct": (*NOT_A_RATIO, 1.1),
        "crop_mode": NOT_A_TEXT,
        "interpolation": NOT_A_TEXT,
        "input_size": ("x", [3, 24], [3, "24", 24], [3, 24, -24], 24),
        "label_names": ("x", {}, [1], [["a"]]),
        "tag": NOT_A_TEXT,
    },
}
GARBAGE: tuple[object, ...] = (None, True, -1, 10**400, "x", [], [[None]], {"x": {"y": []}})


def write_setting(folder, file, section, setting, value):
    """Changes one setting in a folder's settings file."""
    contents = json.loads((folder / file).read_text())
    values = contents[section] if section else contents
    values[setting] = value
    (folder / file).write_text(json.dumps(contents))


def assert_refused(function, *arguments, names):
    """Asserts an InputError of one line with a file's name."""
    with pytest.raises(InputError) as error:
        function(*arguments)
    assert names in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", WRONG_SETTINGS, ids=str)
def test_wrong_settings_are_refused_by_name(place, tmp_path):
    case, file, section = place
    folder = shutil.copytree(FIXTURES / case, tmp_path / case)
    original = (folder / file).read_text()
    read_weights(folder)
    for setting, values in WRONG_SETTINGS[place].items():
        for value in values:
            if setting == "crop_size":
                write_setting(folder, file, section, "do_center_crop", True)
            write_setting(folder, file, section, setting, value)

            try:
                assert_refused(read_weights, folder, names="model.safetensors")
            except pytest.fail.Exception:
                pytest.fail(f"{setting}={value!r} was accepted")
            (folder / file).write_text(original)


@pytest.mark.parametrize("case", ["hf_vit", "hf_mae", "timm_clip_quick"])
def test_garbage_in_settings_never_gives_another_exception(case, monkeypatch):
    checkpoint = read_checkpoint(FIXTURES / case)
    for field in ("config", "preprocessor"):
        settings = getattr(checkpoint, field)
        for values in garbled(settings.values):
            damaged = dataclasses.replace(settings, values=values)
            damaged = dataclasses.replace(checkpoint, **{field: damaged})
            monkeypatch.setattr(read, "read_checkpoint", lambda _, damaged=damaged: damaged)

            with contextlib.suppress(InputError):
                read_weights(FIXTURES / case)


def garbled(values):
    """Copies of settings, each with garbage in one place, also in nested objects."""
    for name, value in values.items():
        for garbage in GARBAGE:
            yield {**values, name: garbage}
        if isinstance(value, dict):
            for nested in garbled(value):
                yield {**values, name: nested}


@pytest.mark.parametrize(
    "index", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": {"a": "b"}}]
)
def test_a_broken_index_is_refused_by_name(index, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(InputError, match=r"index.json must have a weight_map|b cannot be read"):
        from_weights(tmp_path)


# Arrays. All of these must be refused, whatever the array.
MUTATIONS = {
    "missing": lambda array: None,
    "empty": lambda array: array[..., :0],
    "scalar": lambda array: np.asarray(array.flat[0]),
    "another axis": lambda array: array[..., np.newaxis],
    "first axis doubled": lambda array: np.concatenate([array, array], axis=0),
    "last axis doubled": lambda array: np.concatenate([array, array], axis=-1),
}
GOOGLE: dict[str, dict[str, Any]] = {
    "google": {},
    "google_map": {"pooling": "map"},
    "google_hybrid": {"stem": (1, 2), "patch": 1},
    "google_head": {"head_width": 12},
}
QUICK_CASES = ("google", "hf_mae", "timm_dinov2_reg")  # one of each family with other names
SLOW_CASES = (
    "google_map",
    "google_hybrid",
    "google_head",
    "hf_vit",
    "hf_mim",
    "hf_deit_teacher",
    "timm_siglip",
    "timm_qk_norm",
    "timm_swiglu",
)


def array_cases():
    slow = [pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES]
    return [*QUICK_CASES, *slow]


def read_case(case):
    if case in GOOGLE:
        return numpy_vit.random_arrays(**GOOGLE[case])
    return load_file(FIXTURES / case / "model.safetensors")


def write_case(folder, case, arrays):
    if case in GOOGLE:
        np.savez(folder / "weights.npz", **arrays)
        return folder / "weights.npz"
    save_file(arrays, folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.mark.parametrize("case", array_cases())
def test_damaged_arrays_are_refused_by_name(case, tmp_path):
    arrays = read_case(case)
    path = write_case(tmp_path, case, arrays)
    # Another image size, so that tables of positions are resized before they are compared.
    model = from_weights(path, image_size=32)
    left_out = load_weights(model, path).left_out
    for name, array in arrays.items():
        if name in left_out or "block_1" in name or ".1." in name:
            continue
        for damage, mutate in MUTATIONS.items():
            damaged = {**arrays, name: mutate(array)}
            if damaged[name] is None:
                del damaged[name]
            write_case(tmp_path, case, damaged)

            try:
                assert_refused(load_weights, model, path, names=path.name)
            except pytest.fail.Exception:
                pytest.fail(f"{name} was accepted: {damage}")


@pytest.mark.parametrize(
    ("case", "name", "shape", "message"),
    [
        ("timm_plain", "patch_embed.proj.weight", (16, 3, 8, 4), "patches must be square"),
        ("timm_plain", "blocks.12.norm1.bias", (16,), "blocks 0 to 12, 2, 3, .* are missing"),
        ("timm_plain", "blocks.99999.norm1.bias", (16,), "not used: blocks.99999.norm1.bias"),
        ("timm_plain", "blocks.0.mlp.fc2.weight", (16,), "must have rank 2. Got shape"),
        ("hf_mim", "decoder.0.bias", (191,), "must predict the 3x8x8 values of a patch"),
        ("hf_mae", "decoder.decoder_pos_embed", (1, 11, 8), "must have the shape"),
    ],
)
def test_the_error_says_what_is_wrong_with_an_array(case, name, shape, message, tmp_path):
    arrays = load_file(FIXTURES / case / "model.safetensors")
    arrays[name] = np.ones(shape, "float32")

    with pytest.raises(InputError, match=message):
        from_weights(changed_checkpoint(tmp_path, case, arrays), image_size=32)


def test_scanned_blocks_need_an_axis_for_the_blocks(tmp_path):
    arrays = numpy_vit.random_arrays()
    arrays["Transformer/encoderblock/LayerNorm_0/scale"] = np.float32(1)
    np.savez(tmp_path / "weights.npz", **arrays)

    with pytest.raises(InputError, match="must have a first axis for the blocks"):
        from_weights(tmp_path / "weights.npz")


@pytest.mark.parametrize(
    "overrides",
    [{"heads": "2"}, {"registers": "x"}, {"prefix_positions": "x"}, {"pooling": []}, {"gelu": 1}],
    ids=str,
)
def test_wrong_overrides_are_refused(overrides):
    with pytest.raises(InputError, match="Got "):
        from_weights(PLAIN, **overrides)


@pytest.mark.parametrize("function", ["infer_config", "from_source", "fetch"])
def test_a_defect_of_the_library_is_not_an_input_error(function, monkeypatch):
    def broken(*_, **__):
        raise TypeError("a defect")

    monkeypatch.setattr(read, function, broken)

    with pytest.raises(TypeError, match="a defect"):
        from_weights(PLAIN)
