"""Weights that do not fit: one error that says so, and no variable is changed."""

import pathlib
import sys
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import (
    FIXTURES,
    PLAIN,
    changed_checkpoint,
    changed_file,
    checkpoint_path,
)

from vit_keras import InputError, build_vit, from_weights, get_config, load_weights


def replace(name, array):
    def change(arrays):
        arrays[name] = array

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("blocks.1.norm2.bias"), "missing: blocks.1.norm2.bias"),
        (
            lambda a: a.pop("blocks.0.attn.qkv.weight"),
            "missing: blocks.0.attn.qkv.weight",
        ),
        (replace("extra", np.ones(2, "float32")), "not used: extra"),
        (
            replace("blocks.1.attn.proj.weight", np.ones((16, 15), "float32")),
            r"of another shape: blocks.1.attn.proj.weight \(15x16 for 16x16\)",
        ),
        (replace("norm.bias", np.full(16, np.nan, "float32")), "NaN or infinite .* norm.bias"),
        (replace("norm.bias", np.full(16, np.inf, "float32")), "NaN or infinite"),
    ],
)
def test_problems_are_listed_and_nothing_is_loaded(change, message, tmp_path):
    path = changed_file(tmp_path, change)
    config = get_config(from_weights(PLAIN))
    model = build_vit(config)
    before = model.get_weights()

    with pytest.raises(InputError, match=message):
        load_weights(model, path)
    with pytest.raises(InputError, match="changed.safetensors"):
        from_weights(path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_long_lists_are_grouped_and_shortened():
    model = build_vit(get_config(from_weights(PLAIN)), depth=4)

    with pytest.raises(InputError, match=r"missing: blocks\.\{2-3\}\.norm1.* and \d+ more"):
        load_weights(model, PLAIN)


def test_another_number_of_classes_needs_keep_head():
    model = build_vit(get_config(from_weights(PLAIN)), num_classes=3)
    head = model.get_layer("head").get_weights()

    with pytest.raises(InputError, match=r"head.weight \(16x5 for 16x3\).*keep_head=True"):
        load_weights(model, PLAIN)
    report = load_weights(model, PLAIN, keep_head=True)

    assert report.loaded == len(model.weights) - 2
    np.testing.assert_array_equal(model.get_layer("head").get_weights()[0], head[0])


def test_the_report_counts_what_was_loaded():
    model = build_vit(get_config(from_weights(PLAIN)))

    report = load_weights(model, PLAIN)

    assert report.family == "timm"
    assert report.loaded == len(model.weights)
    assert str(report).startswith(f"{len(model.weights)} variables from {PLAIN} (timm)")


def test_mask_tokens_are_left_out_by_name():
    path = checkpoint_path("hf_dinov2")
    report = load_weights(build_vit(get_config(from_weights(path))), path)

    assert list(report.left_out) == ["embeddings.mask_token"]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "not weights"])
def test_broken_files_are_refused_by_name(suffix, damage, tmp_path):
    path = tmp_path / f"broken{suffix}"
    if suffix == ".pth":
        pytest.importorskip("torch", reason="reading .pth files needs torch")
        whole = (FIXTURES / "fb_deit" / "weights.pth").read_bytes()
    elif suffix == ".npz":
        arrays: dict[str, Any] = load_file(PLAIN)
        np.savez(path, **arrays)
        whole = path.read_bytes()
    else:
        whole = PLAIN.read_bytes()
    contents = {"truncated": whole[: len(whole) // 2], "empty": b"", "not weights": b"<html>" * 99}
    path.write_bytes(contents[damage])

    with pytest.raises(InputError, match=f"broken{suffix} cannot be read"):
        from_weights(path)


def test_pickles_that_would_run_code_are_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="reading .pth files needs torch")

    class Evil:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "ran",))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")

    with pytest.raises(InputError, match=r"evil.pth cannot be read"):
        from_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nothing.safetensors", "there is no weights file"),
        ("vit_ti16_224_augrag", "did you mean vit_ti16_224_augreg"),
        ("hf://only-a-name", "hf://owner/name"),
    ],
)
def test_wrong_sources_are_refused(wrong, message, tmp_path):
    with pytest.raises(InputError, match=message):
        from_weights(wrong)


def test_other_files_and_models_are_refused(tmp_path):
    (tmp_path / "weights.txt").write_text("no weights")
    save_file({"conv1.weight": np.ones(3, "float32")}, tmp_path / "resnet.safetensors")
    (tmp_path / "empty").mkdir()

    for name, message in {
        "weights.txt": "weights are .npz",
        "resnet.safetensors": "not a Vision Transformer of a known family .* conv1.weight",
        "empty": "nor any of model.safetensors",
    }.items():
        with pytest.raises(InputError, match=message):
            from_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("hf_vit", {"hidden_act": "relu"}, "hidden_act='relu' is not supported"),
        ("timm_plain", {"architecture": "vit_base_patch16_rope_224"}, "is not a plain ViT"),
        ("timm_plain", {"model_args": {"act_layer": "relu"}}, "act_layer='relu' is not supported"),
        ("timm_plain", {"global_pool": "max"}, "global_pool='max' is not supported"),
    ],
)
def test_settings_of_other_models_are_refused(case, changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        from_weights(changed_checkpoint(tmp_path, case, **changes))


@pytest.mark.parametrize("contents", ["[]", "null", "", "{"])
def test_broken_settings_are_refused_by_name(contents, tmp_path):
    folder = changed_checkpoint(tmp_path, "timm_plain")
    (folder / "config.json").write_text(contents)

    with pytest.raises(InputError, match=r"config.json (is not JSON|must be a JSON object)"):
        from_weights(folder)


def test_two_final_norms_are_refused(tmp_path):
    def change(arrays):
        arrays["fc_norm.weight"] = arrays["norm.weight"]
        arrays["fc_norm.bias"] = arrays["norm.bias"]

    with pytest.raises(InputError, match="not used: (fc_)?norm.bias, (fc_)?norm.weight"):
        from_weights(changed_file(tmp_path, change))


def test_only_the_missing_part_of_a_variable_is_named(tmp_path):
    arrays = load_file(FIXTURES / "hf_vit" / "model.safetensors")
    del arrays["vit.encoder.layer.1.attention.attention.key.bias"]

    with pytest.raises(InputError) as error:
        from_weights(changed_checkpoint(tmp_path, "hf_vit", arrays))

    assert "missing: encoder.layer.1.attention.attention.key.bias." in str(error.value)


def test_a_checkpoint_without_positions_is_refused(tmp_path):
    with pytest.raises(InputError, match="no table of positions"):
        from_weights(changed_file(tmp_path, lambda arrays: arrays.pop("pos_embed")), image_size=24)


def test_a_size_that_does_not_fit_the_weights_is_refused():
    with pytest.raises(InputError, match=r"makes 2x2 patches, and the checkpoint has 10 positions"):
        from_weights(PLAIN, weights_image_size=16)


def test_mistyped_overrides_are_refused():
    with pytest.raises(InputError, match="no field 'head'; did you mean heads"):
        from_weights(PLAIN, head=2)


def test_the_checksum_of_a_local_file_is_checked():
    with pytest.raises(InputError, match="is not a file with sha256 0000"):
        from_weights(PLAIN, sha256="0" * 64)


def test_without_torch_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(InputError, match=r"pip install torch. Or, .*safetensors.torch.save_file"):
        from_weights(FIXTURES / "fb_deit" / "weights.pth")
