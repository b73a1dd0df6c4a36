"""From a published checkpoint to a verified export with the README's two commands."""

import dataclasses
import json

import numpy as np
import pytest
from support import numpy_vit
from support.checkpoints import FIXTURES
from support.shared import shared_folder

from export.__main__ import main as export
from training.__main__ import main
from training.fit import fit
from training.recipe import load_recipe
from vit_keras import load_model
from vit_keras.layers.positions import resize_positions

QUICK = ["epochs=2", "batch_size=8", "steps_per_execution=1", "jit_compile=false"]


def settings(*more):
    return [argument for setting in (*QUICK, *more) for argument in ("--set", setting)]


@pytest.fixture(scope="module")
def tuned(photographs, tmp_path_factory):
    """A checkpoint in Google's format for 24x24 pixels, fine-tuned for two classes at 16x32."""

    def build(folder):
        np.savez(folder / "ViT.npz", **numpy_vit.random_arrays())
        sources = ["--weights", str(folder / "ViT.npz"), "--data", str(photographs)]
        changed = settings("image_size=16,32", "learning_rate=1e-7", "mean=0.4")
        main(["fit", "finetune", *sources, *changed, "--out", str(folder / "run")])

    return shared_folder(tmp_path_factory, "tuned", build)


@pytest.mark.slow
def test_model_has_the_checkpoints_weights_at_the_new_size_and_classes(tuned):
    model = load_model(tuned / "run" / "model.keras")

    assert model.input_shape == (None, 16, 32, 3)
    assert model.class_names == ("blue", "red")
    assert (model.config.block.gelu, model.config.position_resize) == ("tanh", "corners")
    # The learning rate is too small to change weights; positions are resized.
    with np.load(tuned / "ViT.npz") as arrays:
        expand = arrays["Transformer/encoderblock_1/MlpBlock_3/Dense_0/kernel"]
        positions = arrays["Transformer/posembed_input/pos_embedding"][0]
    kernel = model.get_layer("block_1").mlp.expand.get_weights()[0]
    np.testing.assert_allclose(kernel, expand, atol=1e-5)
    expected = resize_positions(positions, (3, 3), (2, 4), "corners")
    resized = np.asarray(model.get_layer("patch_encoder").position_table)[0]
    np.testing.assert_allclose(resized, expected, atol=1e-5)


@pytest.mark.slow
def test_preprocessing_is_the_checkpoints_except_for_overrides(tuned):
    model = load_model(tuned / "run" / "model.keras")

    assert model.preprocessing.mean == (0.4, 0.4, 0.4)
    assert model.preprocessing.std == (0.5, 0.5, 0.5)
    assert model.preprocessing.resize == "squash"  # as vision_transformer evaluates


@pytest.mark.slow
def test_config_json_describes_the_trained_model(tuned):
    record = json.loads((tuned / "run" / "config.json").read_text())
    model = load_model(tuned / "run" / "model.keras")

    assert record["recipe"]["weights"].endswith("ViT.npz")
    assert record["model"]["image_size"] == [16, 32]
    assert record["model"]["width"] == 16
    assert record["preprocessing"] == json.loads(
        json.dumps(dataclasses.asdict(model.preprocessing))
    )
    assert "ViT.npz on" in (tuned / "run" / "report.md").read_text()


@pytest.mark.slow
def test_exports_agree_with_the_model(tuned, tmp_path):
    model = str(tuned / "run" / "model.keras")

    export([model, "--format", "savedmodel", "tflite", "--out", str(tmp_path)])

    rows = json.loads((tmp_path / "report.json").read_text())["artefacts"]
    assert [row["format"] for row in rows] == ["savedmodel", "tflite"]
    assert all(row["max_difference"] <= 2e-5 for row in rows)


@pytest.mark.slow
def test_run_can_start_from_the_model_of_another_run(tuned, photographs, tmp_path):
    recipe = load_recipe(
        "finetune", [*QUICK, f"dataset={photographs}", f"weights={tuned / 'run' / 'model.keras'}"]
    )

    fit(recipe, tmp_path / "run")

    assert load_model(tmp_path / "run" / "model.keras").input_shape == (None, 16, 32, 3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "starts from weights; name some with --weights"),
        (["--weights", "nothing.npz"], "there is no weights file nothing.npz"),
        (["--weights", "{timm}", "--set", "channels=1"], "of 3 channels. Got channels=1"),
        (["--weights", "{timm}", "--set", "image_size=25"], "try image_size=(24, 24)"),
    ],
)
def test_mistake_is_a_one_line_error_and_leaves_no_run_folder(more, message, photographs, tmp_path):
    timm = FIXTURES / "timm_plain" / "model.safetensors"
    arguments = [argument.format(timm=timm) for argument in more]

    with pytest.raises(SystemExit) as stopped:
        options = ["--data", str(photographs), "--out", str(tmp_path / "run")]
        main(["fit", "finetune", *options, *arguments])

    assert str(stopped.value).startswith("Error: ")
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert not (tmp_path / "run").exists()
