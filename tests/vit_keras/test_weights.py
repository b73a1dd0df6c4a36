"""Checkpoints of other projects give what their own code computed, and nothing is half loaded."""

import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import FIXTURES, checkpoint_path
from support.tiny import tiny_model

import vit_keras
from vit_keras import (
    InputError,
    Patches,
    build_vit,
    from_weights,
    get_config,
    load_weights,
    mae_loss,
)
from vit_keras.layers.positions import resize_patches, resize_positions
from vit_keras.tasks.masked import MaskedAutoencoder, MaskedImageModel

TOLERANCE = 2e-5
CASES = sorted(path.parent.name for path in FIXTURES.glob("*/io.npz"))
MASKED = ("hf_mae", "fb_mae", "hf_mim")
PLAIN = FIXTURES / "timm_plain" / "model.safetensors"


def outputs(model, inputs, *names):
    layers = [model.get_layer(name).output for name in names]
    found = keras.Model(model.input, layers)(inputs)
    return [np.asarray(output) for output in keras.tree.flatten(found)]


def close(actual, expected):
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", [case for case in CASES if case not in MASKED])
def test_models_compute_what_the_original_computed(case):
    with np.load(FIXTURES / case / "io.npz") as io:
        expected = dict(io)
    model = from_weights(checkpoint_path(case))
    config = get_config(model)

    last = f"block_{config.depth - 1}" if config.norm_after_pooling else "norm"
    pooled = "norm" if config.norm_after_pooling else "pre_logits" if config.head_width else "pool"
    tokens, features = outputs(model, expected["images"], last, pooled)
    close(tokens, expected["tokens"])
    if config.distilled:
        (other,) = outputs(model, expected["images"], "pool_dist")
        features = (features + other) / 2
        heads = outputs(model, expected["images"], "head", "head_dist")
        close(heads[0], expected["logits_cls"])
        close(heads[1], expected["logits_dist"])
    close(features, expected["pooled"])
    close(model(expected["images"]), expected.get("logits", expected["pooled"]))


@pytest.mark.parametrize("case", ["hf_mae", "fb_mae"])
def test_masked_autoencoders_compute_what_the_original_computed(case):
    with np.load(FIXTURES / case / "io.npz") as io:
        expected = dict(io)
    model = from_weights(checkpoint_path(case))
    inputs = {"images": expected["images"], "noise": expected["noise"]}

    assert isinstance(model, MaskedAutoencoder)
    found = model(inputs)
    close(found["prediction"], expected["prediction"])
    np.testing.assert_array_equal(found["mask"], expected["mask"])
    close(outputs(model, inputs, "norm")[0], expected["latent"])
    patches = Patches(model.config.patch_size)(expected["images"])
    for normalised, name in ((False, "loss"), (True, "loss_norm_pix")):
        loss = mae_loss(patches, found["prediction"], found["mask"], normalised)
        assert float(loss) == pytest.approx(float(expected[name]), abs=TOLERANCE)


def test_masked_image_models_compute_what_the_original_computed():
    with np.load(FIXTURES / "hf_mim" / "io.npz") as io:
        expected = dict(io)
    model = from_weights(checkpoint_path("hf_mim"))

    assert isinstance(model, MaskedImageModel)
    close(model({"images": expected["images"], "masked": expected["mask"]}), expected["prediction"])


def test_masked_models_save_and_load(tmp_path):
    inputs = {"images": np.ones((2, 24, 24, 3), "float32"), "noise": np.ones((2, 9), "float32")}
    for case, name in (("hf_mae", "noise"), ("hf_mim", "masked")):
        model = from_weights(checkpoint_path(case))
        model.save(tmp_path / "model.keras")
        loaded = vit_keras.load_model(tmp_path / "model.keras")

        given = {"images": inputs["images"], name: inputs["noise"]}
        before, after = model(given), loaded(given)
        for old, new in zip(keras.tree.flatten(before), keras.tree.flatten(after), strict=True):
            np.testing.assert_array_equal(old, new)


def test_encoders_of_masked_models_become_classifiers(caplog):
    with np.load(FIXTURES / "hf_mae" / "io.npz") as io:
        images = io["images"]
    whole = from_weights(checkpoint_path("hf_mae"))
    classifier = from_weights(checkpoint_path("hf_mae"), num_classes=3)

    assert classifier.output_shape == (None, 3)
    assert "the head is new, to be trained for 3 classes" in caplog.text
    embedded = [outputs(m, i, "patch_encoder")[0] for m, i in (
        (whole, {"images": images, "noise": np.zeros((1, 9), "float32")}), (classifier, images),
    )]  # fmt: skip
    np.testing.assert_array_equal(*embedded)


@pytest.mark.parametrize("case", ["timm_plain", "hf_vit"])
def test_a_new_head_keeps_the_rest(case, caplog):
    with np.load(FIXTURES / case / "io.npz") as io:
        images, pooled = io["images"], io["pooled"]

    model = from_weights(checkpoint_path(case), num_classes=7)

    assert model.output_shape == (None, 7)
    assert "the head is new, to be trained for 7 classes (the checkpoint: 5)" in caplog.text
    close(outputs(model, images, "pool")[0], pooled)
    assert not model(images).numpy().any()  # section 3.2 of the paper: even odds to start with
    close(from_weights(checkpoint_path(case), num_classes=0)(images), pooled)


def test_a_new_head_leaves_the_layer_before_it_out():
    assert get_config(from_weights(checkpoint_path("timm_prelogits"))).head_width == 24
    assert (
        get_config(from_weights(checkpoint_path("timm_prelogits"), num_classes=3)).head_width == 0
    )


def test_hugging_faces_settings_travel():
    model = from_weights(checkpoint_path("hf_vit"))
    settings = json.loads((FIXTURES / "hf_vit" / "config.json").read_text())

    assert model.class_names == tuple(settings["id2label"].values())
    assert get_config(model).block.norm_epsilon == 1e-12
    assert model.preprocessing.mean == (0.485, 0.456, 0.406)
    assert model.preprocessing.interpolation == "bicubic"


def test_timms_settings_travel():
    model = from_weights(checkpoint_path("timm_clip_quick"))

    assert get_config(model).block.gelu == "quick"
    assert get_config(model).block.norm_epsilon == 1e-5
    assert model.preprocessing.mean[0] == pytest.approx(0.4815, abs=1e-4)


def test_what_a_checkpoint_does_not_tell_is_said(caplog):
    from_weights(checkpoint_path("timm_clip_exact"))

    assert "assumed gelu='exact'" in caplog.text
    assert "assumed heads=2" in caplog.text
    assert "assumed mean=" in caplog.text


def test_prefixes_of_wrapping_modules_are_removed(tmp_path):
    arrays = {f"module.{name}": array for name, array in load_file(PLAIN).items()}
    save_file(arrays, tmp_path / "wrapped.safetensors")
    with np.load(FIXTURES / "timm_plain" / "io.npz") as io:
        close(from_weights(tmp_path / "wrapped.safetensors")(io["images"]), io["logits"])


def test_text_towers_are_left_out(tmp_path):
    arrays = {f"visual.trunk.{name}": array for name, array in load_file(PLAIN).items()}
    arrays["text.token_embedding.weight"] = np.ones((3, 2), "float32")
    save_file(arrays, tmp_path / "clip.safetensors")

    model = from_weights(tmp_path / "clip.safetensors")
    report = load_weights(model, tmp_path / "clip.safetensors")

    assert list(report.left_out) == ["text.token_embedding.weight"]


def test_names_since_transformers_5_are_the_same(tmp_path):
    renames = {
        "encoder.layer": "layers", "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj", "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }  # fmt: skip
    arrays = {}
    for name, array in load_file(FIXTURES / "hf_vit" / "model.safetensors").items():
        for old, new in renames.items():
            name = name.replace(old, new)
        arrays[name] = array
    assert "vit.layers.1.attention.o_proj.bias" in arrays
    shutil.copy(FIXTURES / "hf_vit" / "config.json", tmp_path)
    save_file(arrays, tmp_path / "model.safetensors")

    with np.load(FIXTURES / "hf_vit" / "io.npz") as io:
        close(from_weights(tmp_path)(io["images"]), io["logits"])


def test_weights_in_several_files_are_read_by_their_index(tmp_path):
    arrays = load_file(PLAIN)
    halves = {"a.safetensors": dict(list(arrays.items())[:10])}
    halves["b.safetensors"] = {n: a for n, a in arrays.items() if n not in halves["a.safetensors"]}
    for name, half in halves.items():
        save_file(half, tmp_path / name)
    index = {"weight_map": {name: file for file, half in halves.items() for name in half}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    with np.load(FIXTURES / "timm_plain" / "io.npz") as io:
        close(from_weights(tmp_path)(io["images"]), io["logits"])


# What does not fit: one error that says so, and no weight is changed.


def broken(tmp_path, change):
    arrays = load_file(PLAIN)
    change(arrays)
    save_file(arrays, tmp_path / "broken.safetensors")
    return tmp_path / "broken.safetensors"


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
            "is no whole ViT: blocks.0.attn.qkv.weight|missing: blocks.0.attn.qkv.weight",
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
def test_what_does_not_fit_is_listed_and_nothing_is_loaded(change, message, tmp_path):
    path = broken(tmp_path, change)
    config = get_config(from_weights(PLAIN))
    model = build_vit(config)
    before = model.get_weights()

    with pytest.raises(InputError, match=message):
        load_weights(model, path)
    with pytest.raises(InputError, match="broken.safetensors"):
        from_weights(path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_long_lists_are_grouped_and_shortened():
    model = build_vit(get_config(from_weights(PLAIN)), depth=4)

    with pytest.raises(InputError, match=r"missing: blocks\.\{2-3\}\.norm1.* and \d+ more"):
        load_weights(model, PLAIN)


def test_another_number_of_classes_has_to_be_asked_for():
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


def test_a_model_that_computes_otherwise_is_warned_about(caplog):
    model = build_vit(get_config(from_weights(PLAIN)), gelu="tanh")

    load_weights(model, PLAIN)

    assert "trained with gelu='exact', and this model has 'tanh'" in caplog.text


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
        np.savez(path, **load_file(PLAIN))
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
        "weights.txt": "weights come as .npz",
        "resnet.safetensors": "no Vision Transformer of a known family .* conv1.weight",
        "empty": "nor any of model.safetensors",
    }.items():
        with pytest.raises(InputError, match=message):
            from_weights(tmp_path / name)


# This project's own models, rebuilt.


def test_a_saved_model_is_rebuilt_at_another_size_with_another_head(tmp_path):
    model = tiny_model(position_resize="bicubic", class_names=list("abcde"))
    model.save(tmp_path / "model.keras")

    same = from_weights(tmp_path / "model.keras")
    larger = from_weights(tmp_path / "model.keras", image_size=(24, 32), num_classes=2)

    images = np.random.default_rng(0).standard_normal((2, 16, 24, 3)).astype("float32")
    np.testing.assert_array_equal(same(images), model(images))
    assert same.class_names == tuple("abcde")
    assert larger.output_shape == (None, 2)
    table = np.asarray(larger.get_layer("patch_encoder").position_table)[0]
    old = np.asarray(model.get_layer("patch_encoder").position_table)[0]
    expected = resize_positions(old, (4, 6), (6, 8), "bicubic")
    np.testing.assert_array_equal(table, expected)


@pytest.mark.slow
def test_every_option_of_a_saved_model_is_rebuilt(tmp_path):
    for options in (
        {"stem": "shifted_patches", "locality_attention": True},
        {"stem": "convolutions", "pooling": "sequence"},
        {"distilled": True, "registers": 2, "layer_scale": 0.1},
    ):
        model = tiny_model(**options)
        model.save(tmp_path / "model.keras")
        images = np.ones((1, 16, 24, 3), "float32")

        np.testing.assert_array_equal(from_weights(tmp_path / "model.keras")(images), model(images))


def test_patches_are_resampled_to_another_size(caplog):
    larger = from_weights(PLAIN, patch_size=16)

    assert larger.input_shape == (None, 48, 48, 3)
    assert "patches resampled from 8x8 to 16x16 pixels (bicubic_antialias)" in caplog.text
    kernel = load_file(PLAIN)["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
    expected = resize_patches(kernel, 16, "bicubic_antialias").reshape(-1, 16)
    found = larger.get_layer("patch_encoder").projection.get_weights()[0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_training_starts_from_a_checkpoint():
    model = from_weights(PLAIN, num_classes=3, image_size=(16, 32), dropout=0.1)
    images = np.random.default_rng(0).standard_normal((8, 16, 32, 3)).astype("float32")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    losses = model.fit(images, np.arange(8) % 3, epochs=8, verbose=0).history["loss"]

    assert losses[-1] < losses[0]
    assert get_config(model).block.dropout == 0.1


def test_messages_are_of_the_librarys_logger(caplog):
    caplog.set_level(logging.WARNING)
    from_weights(PLAIN, image_size=32)

    assert {record.name for record in caplog.records} == {"vit_keras"}
    assert "positions resized from 3x3 to 4x4 patches (bicubic_antialias)" in caplog.text


# What other people's checkpoints have shown.


def folder_with(tmp_path, case, arrays=None, **changes):
    """A copy of a fixture with other arrays, or other values in its config.json"""
    folder = tmp_path / "changed"
    shutil.copytree(FIXTURES / case, folder)
    if arrays is not None:
        save_file(arrays, folder / "model.safetensors")
    config = folder / "config.json"
    contents = json.loads(config.read_text()) if config.exists() else {}
    config.write_text(json.dumps({**contents, **changes}))
    return folder


def test_two_classes_of_one_name_are_told_apart(tmp_path):
    labels = {str(number): name for number, name in enumerate(["crane", "cat", "crane", "a", "b"])}

    model = from_weights(folder_with(tmp_path, "hf_vit", id2label=labels))

    assert model.class_names == ("crane", "cat", "crane (2)", "a", "b")


def test_a_classifier_does_not_read_the_pooler(tmp_path):
    arrays = load_file(FIXTURES / "hf_vit" / "model.safetensors")
    arrays["vit.pooler.dense.weight"] = np.ones((16, 16), "float32")
    arrays["vit.pooler.dense.bias"] = np.ones(16, "float32")

    with np.load(FIXTURES / "hf_vit" / "io.npz") as io:
        close(from_weights(folder_with(tmp_path, "hf_vit", arrays))(io["images"]), io["logits"])


def test_features_are_without_the_pooler(tmp_path):
    arrays = load_file(FIXTURES / "hf_vit_model" / "model.safetensors")
    arrays["pooler.dense.weight"] = np.eye(16, dtype="float32")
    arrays["pooler.dense.bias"] = np.ones(16, "float32")
    folder = folder_with(tmp_path, "hf_vit_model", arrays)

    with np.load(FIXTURES / "hf_vit_model" / "io.npz") as io:
        close(from_weights(folder)(io["images"]), np.tanh(io["pooled"] + 1))
        close(from_weights(folder, num_classes=0)(io["images"]), io["pooled"])
    assert get_config(from_weights(folder, num_classes=3)).head_width == 0


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("hf_vit", {"hidden_act": "relu"}, "hidden_act='relu' is not supported"),
        ("hf_vit", {"layer_norm_eps": None}, "not the arrays and settings of a whole ViT"),
        ("hf_vit", {"id2label": ["a"]}, "not the arrays and settings of a whole ViT"),
        ("timm_plain", {"architecture": "vit_base_patch16_rope_224"}, "another model"),
        ("timm_plain", {"model_args": {"act_layer": "relu"}}, "act_layer='relu' is not supported"),
        ("timm_plain", {"global_pool": "max"}, "global_pool='max' is not supported"),
        ("timm_plain", {"model_args": []}, "not the arrays and settings of a whole ViT"),
    ],
)
def test_settings_of_other_models_are_refused(case, changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        from_weights(folder_with(tmp_path, case, **changes))


@pytest.mark.parametrize("contents", ["[]", "null", "", "{"])
def test_broken_settings_are_refused_by_name(contents, tmp_path):
    folder = folder_with(tmp_path, "timm_plain")
    (folder / "config.json").write_text(contents)

    with pytest.raises(InputError, match=r"config.json (is not JSON|holds no settings)"):
        from_weights(folder)


def test_two_last_norms_are_one_too_many(tmp_path):
    def change(arrays):
        arrays["fc_norm.weight"] = arrays["norm.weight"]
        arrays["fc_norm.bias"] = arrays["norm.bias"]

    with pytest.raises(InputError, match="not used: (fc_)?norm.bias, (fc_)?norm.weight"):
        from_weights(broken(tmp_path, change))


def test_a_missing_part_is_named_alone(tmp_path):
    arrays = load_file(FIXTURES / "hf_vit" / "model.safetensors")
    del arrays["vit.encoder.layer.1.attention.attention.key.bias"]

    with pytest.raises(InputError) as error:
        from_weights(folder_with(tmp_path, "hf_vit", arrays))

    assert "missing: encoder.layer.1.attention.attention.key.bias." in str(error.value)


def test_a_positionless_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="no table of positions"):
        from_weights(broken(tmp_path, lambda arrays: arrays.pop("pos_embed")), image_size=24)


def test_a_size_that_does_not_fit_the_weights_is_refused():
    with pytest.raises(InputError, match=r"makes 2x2 patches, and the checkpoint has 10 positions"):
        from_weights(PLAIN, weights_image_size=16)


def test_what_the_caller_tells_is_not_assumed(caplog):
    from_weights(checkpoint_path("timm_clip_exact"), gelu="quick", heads=2)

    assert "assumed gelu" not in caplog.text
    assert "assumed heads" not in caplog.text


def test_mistyped_overrides_are_refused():
    with pytest.raises(InputError, match="no field 'head'; did you mean heads"):
        from_weights(PLAIN, head=2)


def test_the_checksum_of_a_local_file_is_checked():
    with pytest.raises(InputError, match="is no file of sha256 0000"):
        from_weights(PLAIN, sha256="0" * 64)


def test_other_normalisation_is_warned_about(caplog):
    load_weights(
        build_vit(get_config(from_weights(checkpoint_path("timm_deit3")))),
        checkpoint_path("timm_deit3"),
    )

    assert "trained with mean=(0.485, 0.456, 0.406), and this model has (0.5" in caplog.text


def test_torch_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(InputError, match=r"pip install torch. Or, .*safetensors.torch.save_file"):
        from_weights(FIXTURES / "fb_deit" / "weights.pth")


def test_a_map_head_looks_at_the_patches_alone(tmp_path):
    model = tiny_model(pooling="map", cls_token=True, registers=2)
    pool = model.get_layer("pool")
    tokens = np.random.default_rng(0).standard_normal((1, 27, 48)).astype("float32")
    others = tokens.copy()
    others[:, :3] += 1

    np.testing.assert_array_equal(pool(tokens), pool(others))


def test_masked_autoencoders_are_rebuilt_at_another_size():
    model = from_weights(checkpoint_path("hf_mae"), image_size=32)

    table = load_file(FIXTURES / "hf_mae" / "model.safetensors")["decoder.decoder_pos_embed"][0]
    expected = resize_positions(table, (3, 3), (4, 4), "bicubic")
    np.testing.assert_array_equal(model.get_layer("fill_in").get_weights()[1][0], expected)
    with pytest.raises(InputError, match="patch_size is for its encoder"):
        from_weights(checkpoint_path("hf_mae"), patch_size=4)
    assert from_weights(checkpoint_path("hf_mae"), patch_size=4, num_classes=0).input_shape[1] == 12


@pytest.mark.slow
@pytest.mark.parametrize("case", ["timm_distilled", "hf_mae", "hf_mim"])
def test_outputs_are_float32_under_mixed_precision(case):
    before = from_weights(checkpoint_path(case))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = from_weights(checkpoint_path(case))
    finally:
        keras.config.set_dtype_policy("float32")
    inputs = {
        keras_input.name: np.random.default_rng(0).random((1, *keras_input.shape[1:]))
        for keras_input in model.inputs
    }
    inputs = {name: array.astype("float32") for name, array in inputs.items()}
    if "masked" in inputs:
        inputs["masked"] = np.round(inputs["masked"])

    outputs = [keras.tree.flatten(m(inputs if len(inputs) > 1 else inputs["images"]))
               for m in (before, model)]  # fmt: skip

    for full, half in zip(*outputs, strict=True):
        assert keras.backend.standardize_dtype(half.dtype) == "float32"
        np.testing.assert_allclose(half, full, atol=0.1)


def test_registers_grow_apart():
    model = build_vit("vit_b16", image_size=16, num_classes=2, registers=2, prefix_positions=False,
                      patch_size=8, width=16, depth=1, heads=2, mlp_width=16)  # fmt: skip
    first, second = np.asarray(model.get_layer("patch_encoder").prefix_table[1])[0]

    assert np.abs(first - second).max() > 0.005


ON_JAX = """
import sys, pathlib, keras, numpy, vit_keras
assert keras.backend.backend() == "jax"
for case in sys.argv[2:]:
    folder = pathlib.Path(sys.argv[1]) / case
    io = numpy.load(folder / "io.npz")
    model = vit_keras.from_weights(folder)
    given = {name: io[name] for name in ("images", "noise") if name in io}
    found = model(given if len(given) > 1 else io["images"])
    found = found["prediction"] if isinstance(found, dict) else found
    name = next(name for name in ("logits", "prediction", "pooled") if name in io)
    difference = numpy.abs(numpy.asarray(found) - io[name]).max()
    print(case, difference)
    assert difference < 2e-5, case
"""


@pytest.mark.slow
def test_checkpoints_compute_the_same_on_another_backend():
    pytest.importorskip("jax")
    cases = ["timm_distilled", "timm_dinov2_reg", "timm_siglip", "timm_swiglu", "hf_mae"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}

    command = [sys.executable, "-c", ON_JAX, FIXTURES, *cases]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(cases)
