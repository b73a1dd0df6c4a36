"""Weights load into models of another size, head or precision, and this project's own reload."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.checkpoints import (
    FIXTURES,
    PLAIN,
    assert_close,
    checkpoint_path,
    layer_outputs,
)
from support.tiny import tiny_model

from vit_keras import InputError, from_weights, get_config
from vit_keras.layers.positions import resize_patches, resize_positions


def test_encoders_of_masked_models_become_classifiers(caplog):
    with np.load(FIXTURES / "hf_mae" / "io.npz") as io:
        images = io["images"]
    autoencoder = from_weights(checkpoint_path("hf_mae"))
    classifier = from_weights(checkpoint_path("hf_mae"), num_classes=3)

    assert classifier.output_shape == (None, 3)
    assert "the head is new, to be trained for 3 classes" in caplog.text
    masked_inputs = {"images": images, "noise": np.zeros((1, 9), "float32")}
    (expected,) = layer_outputs(autoencoder, masked_inputs, "patch_encoder")
    (tokens,) = layer_outputs(classifier, images, "patch_encoder")
    np.testing.assert_array_equal(tokens, expected)


@pytest.mark.parametrize("case", ["timm_plain", "hf_vit"])
def test_a_new_head_keeps_the_other_weights(case, caplog):
    with np.load(FIXTURES / case / "io.npz") as io:
        images, pooled = io["images"], io["pooled"]

    model = from_weights(checkpoint_path(case), num_classes=7)

    assert model.output_shape == (None, 7)
    assert "the head is new, to be trained for 7 classes (the checkpoint: 5)" in caplog.text
    assert_close(layer_outputs(model, images, "pool")[0], pooled)
    assert not model(images).numpy().any()  # section 3.2 of the paper: equal probabilities
    assert_close(from_weights(checkpoint_path(case), num_classes=0)(images), pooled)


def test_a_new_head_has_no_layer_before_it():
    assert get_config(from_weights(checkpoint_path("timm_prelogits"))).head_width == 24
    assert (
        get_config(from_weights(checkpoint_path("timm_prelogits"), num_classes=3)).head_width == 0
    )


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
    resampled = larger.get_layer("patch_encoder").projection.get_weights()[0]
    np.testing.assert_array_equal(resampled, expected)


@pytest.mark.slow
def test_training_starts_from_a_checkpoint():
    model = from_weights(PLAIN, num_classes=3, image_size=(16, 32), dropout=0.1)
    images = np.random.default_rng(0).standard_normal((8, 16, 32, 3)).astype("float32")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    losses = model.fit(images, np.arange(8) % 3, epochs=8, verbose=0).history["loss"]

    assert losses[-1] < losses[0]
    assert get_config(model).block.dropout == 0.1


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

    batch = inputs if len(inputs) > 1 else inputs["images"]
    outputs = zip(keras.tree.flatten(before(batch)), keras.tree.flatten(model(batch)), strict=True)

    for full, half in outputs:
        assert keras.backend.standardize_dtype(half.dtype) == "float32"
        np.testing.assert_allclose(half, full, atol=0.1)
