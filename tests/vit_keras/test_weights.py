"""Checkpoints of other projects give the outputs that their own code computed."""

import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import (
    CASES,
    FIXTURES,
    PLAIN,
    TOLERANCE,
    assert_close,
    changed_checkpoint,
    checkpoint_path,
    layer_outputs,
)

import vit_keras
from vit_keras import Patches, from_weights, get_config, load_weights, mae_loss
from vit_keras.tasks.masked import MaskedAutoencoder, MaskedImageModel

MASKED = ("hf_mae", "fb_mae", "hf_mim")


@pytest.mark.parametrize("case", [case for case in CASES if case not in MASKED])
def test_models_give_the_originals_outputs(case):
    with np.load(FIXTURES / case / "io.npz") as io:
        expected = dict(io)
    model = from_weights(checkpoint_path(case))
    config = get_config(model)

    last = f"block_{config.depth - 1}" if config.norm_after_pooling else "norm"
    pooled = "norm" if config.norm_after_pooling else "pre_logits" if config.head_width else "pool"
    tokens, features = layer_outputs(model, expected["images"], last, pooled)
    assert_close(tokens, expected["tokens"])
    if config.distilled:
        (distilled,) = layer_outputs(model, expected["images"], "pool_dist")
        features = (features + distilled) / 2
        heads = layer_outputs(model, expected["images"], "head", "head_dist")
        assert_close(heads[0], expected["logits_cls"])
        assert_close(heads[1], expected["logits_dist"])
    assert_close(features, expected["pooled"])
    assert_close(model(expected["images"]), expected.get("logits", expected["pooled"]))


@pytest.mark.parametrize("case", ["hf_mae", "fb_mae"])
def test_masked_autoencoders_give_the_originals_outputs(case):
    with np.load(FIXTURES / case / "io.npz") as io:
        expected = dict(io)
    model = from_weights(checkpoint_path(case))
    inputs = {"images": expected["images"], "noise": expected["noise"]}

    assert isinstance(model, MaskedAutoencoder)
    outputs = model(inputs)
    assert_close(outputs["prediction"], expected["prediction"])
    np.testing.assert_array_equal(outputs["mask"], expected["mask"])
    assert_close(layer_outputs(model, inputs, "norm")[0], expected["latent"])
    patches = Patches(model.config.patch_size)(expected["images"])
    for normalised, name in ((False, "loss"), (True, "loss_norm_pix")):
        loss = mae_loss(patches, outputs["prediction"], outputs["mask"], normalised)
        assert float(loss) == pytest.approx(float(expected[name]), abs=TOLERANCE)


def test_masked_image_models_give_the_originals_outputs():
    with np.load(FIXTURES / "hf_mim" / "io.npz") as io:
        expected = dict(io)
    model = from_weights(checkpoint_path("hf_mim"))

    assert isinstance(model, MaskedImageModel)
    assert_close(
        model({"images": expected["images"], "masked": expected["mask"]}), expected["prediction"]
    )


def test_masked_models_save_and_load(tmp_path):
    inputs = {"images": np.ones((2, 24, 24, 3), "float32"), "noise": np.ones((2, 9), "float32")}
    for case, name in (("hf_mae", "noise"), ("hf_mim", "masked")):
        model = from_weights(checkpoint_path(case))
        model.save(tmp_path / "model.keras")
        loaded = vit_keras.load_model(tmp_path / "model.keras")

        case_inputs = {"images": inputs["images"], name: inputs["noise"]}
        before, after = model(case_inputs), loaded(case_inputs)
        for old, new in zip(keras.tree.flatten(before), keras.tree.flatten(after), strict=True):
            np.testing.assert_array_equal(old, new)


def test_settings_of_hugging_face_are_used():
    model = from_weights(checkpoint_path("hf_vit"))
    settings = json.loads((FIXTURES / "hf_vit" / "config.json").read_text())

    assert model.class_names == tuple(settings["id2label"].values())
    assert get_config(model).block.norm_epsilon == 1e-12
    assert model.preprocessing.mean == (0.485, 0.456, 0.406)
    assert model.preprocessing.interpolation == "bicubic"


def test_settings_of_timm_are_used():
    model = from_weights(checkpoint_path("timm_clip_quick"))

    assert get_config(model).block.gelu == "quick"
    assert get_config(model).block.norm_epsilon == 1e-5
    assert model.preprocessing.mean[0] == pytest.approx(0.4815, abs=1e-4)


def test_prefixes_of_wrapping_modules_are_removed(tmp_path):
    arrays = {f"module.{name}": array for name, array in load_file(PLAIN).items()}
    save_file(arrays, tmp_path / "wrapped.safetensors")
    with np.load(FIXTURES / "timm_plain" / "io.npz") as io:
        assert_close(from_weights(tmp_path / "wrapped.safetensors")(io["images"]), io["logits"])


def test_text_towers_are_left_out(tmp_path):
    arrays = {f"visual.trunk.{name}": array for name, array in load_file(PLAIN).items()}
    arrays["text.token_embedding.weight"] = np.ones((3, 2), "float32")
    save_file(arrays, tmp_path / "clip.safetensors")

    model = from_weights(tmp_path / "clip.safetensors")
    report = load_weights(model, tmp_path / "clip.safetensors")

    assert list(report.left_out) == ["text.token_embedding.weight"]


def test_names_of_transformers_5_are_read(tmp_path):
    renames = {
        "encoder.layer": "layers",
        "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    arrays = {}
    for name, array in load_file(FIXTURES / "hf_vit" / "model.safetensors").items():
        for old, new in renames.items():
            name = name.replace(old, new)
        arrays[name] = array
    assert "vit.layers.1.attention.o_proj.bias" in arrays
    shutil.copy(FIXTURES / "hf_vit" / "config.json", tmp_path)
    save_file(arrays, tmp_path / "model.safetensors")

    with np.load(FIXTURES / "hf_vit" / "io.npz") as io:
        assert_close(from_weights(tmp_path)(io["images"]), io["logits"])


def test_weights_in_several_files_are_read_by_their_index(tmp_path):
    arrays = load_file(PLAIN)
    halves = {"a.safetensors": dict(list(arrays.items())[:10])}
    halves["b.safetensors"] = {n: a for n, a in arrays.items() if n not in halves["a.safetensors"]}
    for name, half in halves.items():
        save_file(half, tmp_path / name)
    index = {"weight_map": {name: file for file, half in halves.items() for name in half}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    with np.load(FIXTURES / "timm_plain" / "io.npz") as io:
        assert_close(from_weights(tmp_path)(io["images"]), io["logits"])


def test_two_classes_with_one_name_get_different_names(tmp_path):
    labels = {str(number): name for number, name in enumerate(["crane", "cat", "crane", "a", "b"])}

    model = from_weights(changed_checkpoint(tmp_path, "hf_vit", id2label=labels))

    assert model.class_names == ("crane", "cat", "crane (2)", "a", "b")


def test_a_classifier_does_not_read_the_pooler(tmp_path):
    arrays = load_file(FIXTURES / "hf_vit" / "model.safetensors")
    arrays["vit.pooler.dense.weight"] = np.ones((16, 16), "float32")
    arrays["vit.pooler.dense.bias"] = np.ones(16, "float32")

    with np.load(FIXTURES / "hf_vit" / "io.npz") as io:
        assert_close(
            from_weights(changed_checkpoint(tmp_path, "hf_vit", arrays))(io["images"]), io["logits"]
        )


def test_features_are_without_the_pooler(tmp_path):
    arrays = load_file(FIXTURES / "hf_vit_model" / "model.safetensors")
    arrays["pooler.dense.weight"] = np.eye(16, dtype="float32")
    arrays["pooler.dense.bias"] = np.ones(16, "float32")
    folder = changed_checkpoint(tmp_path, "hf_vit_model", arrays)

    with np.load(FIXTURES / "hf_vit_model" / "io.npz") as io:
        assert_close(from_weights(folder)(io["images"]), np.tanh(io["pooled"] + 1))
        assert_close(from_weights(folder, num_classes=0)(io["images"]), io["pooled"])
    assert get_config(from_weights(folder, num_classes=3)).head_width == 0


ON_JAX = """
import sys, pathlib, keras, numpy, vit_keras
assert keras.backend.backend() == "jax"
for case in sys.argv[2:]:
    folder = pathlib.Path(sys.argv[1]) / case
    io = numpy.load(folder / "io.npz")
    model = vit_keras.from_weights(folder)
    inputs = {name: io[name] for name in ("images", "noise") if name in io}
    output = model(inputs if len(inputs) > 1 else io["images"])
    output = output["prediction"] if isinstance(output, dict) else output
    name = next(name for name in ("logits", "prediction", "pooled") if name in io)
    difference = numpy.abs(numpy.asarray(output) - io[name]).max()
    print(case, difference)
    assert difference < 2e-5, case
"""


@pytest.mark.slow
def test_checkpoints_give_the_same_outputs_on_jax():
    pytest.importorskip("jax")
    cases = ["timm_distilled", "timm_dinov2_reg", "timm_siglip", "timm_swiglu", "hf_mae"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}

    command = [sys.executable, "-c", ON_JAX, str(FIXTURES), *cases]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(cases)
