"""build_vit makes named functional models which save, load and refuse what does not fit."""

import itertools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.tiny import TINY, tiny_model

import vit_keras
from vit_keras import InputError, Preprocessing, ViTConfig, build_vit, get_config, load_model


def images(model, count=2):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


COMBINATIONS = list(itertools.product(("cls", "mean"), ("learned", "sincos2d"), (0, 20)))

LOAD_IN_A_FRESH_PROCESS = """
import sys, numpy, keras, vit_keras
for folder in sys.argv[1:]:
    model = keras.models.load_model(folder + "/model.keras", safe_mode=True)
    batch = numpy.load(folder + "/images.npy")
    numpy.save(folder + "/logits.npy", model.predict(batch, verbose=0))
"""


@pytest.mark.slow
def test_saved_models_give_bit_equal_outputs_in_a_fresh_process(tmp_path):
    folders, expected = [], []
    for number, (pooling, positions, head_width) in enumerate(COMBINATIONS):
        model = tiny_model(pooling=pooling, positions=positions, head_width=head_width)
        folder = tmp_path / str(number)
        folder.mkdir()
        np.save(folder / "images.npy", images(model))
        model.save(folder / "model.keras")
        folders.append(folder)
        expected.append(model.predict(images(model), verbose=0))

    command = [sys.executable, "-c", LOAD_IN_A_FRESH_PROCESS, *map(str, folders)]
    subprocess.run(command, check=True, cwd=tmp_path)

    for folder, logits in zip(folders, expected, strict=True):
        assert np.abs(logits).max() > 0.01
        assert (np.load(folder / "logits.npy") == logits).all()


@pytest.mark.parametrize(("pooling", "positions", "head_width"), COMBINATIONS)
def test_every_combination_has_the_right_output_and_config(pooling, positions, head_width):
    model = build_vit(
        "vit_b16", image_size=(16, 24), num_classes=5, pooling=pooling, positions=positions,
        head_width=head_width, **TINY,
    )  # fmt: skip

    assert model.output_shape == (None, 5)
    assert get_config(model).pooling == pooling
    tokens = model.get_layer("patch_encoder").output.shape[1]
    assert tokens == 24 + (pooling == "cls")


OPTIONS = [
    {"distilled": True, "registers": 2},
    {"pooling": "mean", "cls_token": True, "norm_after_pooling": True, "layer_scale": 0.1},
    {"pooling": "map", "gelu": "quick", "pre_norm": True},
    {"pooling": "sequence", "stem": "convolutions", "qkv_bias": False},
    {"stem": "shifted_patches", "locality_attention": True},
    {"stem": "resnet", "stem_width": 32, "stem_blocks": (1,)},
    {"qk_norm": True, "swiglu": True, "prefix_positions": False},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_saves_loads_and_learns(options, tmp_path):
    model = tiny_model(**options)
    before = model.predict(images(model), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")

    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.predict(images(model), verbose=0), before)
    assert None not in model.get_layer("patch_encoder").output.shape[1:]
    gradients = gradients_of(model)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values()), gradients.keys()


def gradients_of(model):
    """{path: gradient} of a loss, without those that are zero by construction"""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(images(model))))
    gradients = tape.gradient(loss, model.trainable_weights)
    return {
        weight.path: np.asarray(gradient)
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
        # Adding the same to all keys does not change a softmax.
        if "key_norm/beta" not in weight.path
    }


def test_distilled_logits_are_the_mean_of_two_heads():
    model = tiny_model(distilled=True)
    heads = keras.Model(model.input, [model.get_layer(n).output for n in ("head", "head_dist")])

    first, second = heads(images(model))

    assert np.abs(first - second).max() > 0.01
    np.testing.assert_allclose(model(images(model)), (first + second) / 2, atol=1e-6)


def test_layers_have_names_and_static_shapes():
    model = tiny_model(head_width=20)

    names = [layer.name for layer in model.layers]
    assert names == ["images", "patches", "patch_encoder", "dropout", "block_0", "block_1", "norm",
                     "pool", "pre_logits", "head"]  # fmt: skip
    for layer in model.layers:
        assert None not in layer.output.shape[1:]
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in model.layers)


def test_model_without_classes_outputs_the_pooled_token():
    model = tiny_model(num_classes=0)

    assert model.output_shape == (None, 48)
    expected = keras.Model(model.input, model.get_layer("pool").output)(images(model))
    np.testing.assert_array_equal(model(images(model)), expected)


def test_config_preprocessing_and_class_names_are_saved_in_the_file(tmp_path):
    preprocessing = Preprocessing((16, 24), "squash", 0.9, "bicubic", (0.1, 0.2, 0.3), (1, 2, 3))
    model = tiny_model(preprocessing=preprocessing, class_names=list("abcde"), gelu="tanh")
    for _ in range(2):
        model.save(tmp_path / "model.keras")
        model = load_model(tmp_path / "model.keras")

    assert type(model) is vit_keras.ViT
    assert model.preprocessing == preprocessing
    assert model.class_names == tuple("abcde")
    assert get_config(model) == ViTConfig.from_fields(
        image_size=(16, 24), num_classes=5, gelu="tanh", **TINY
    )


def test_frozen_layers_and_precision_are_saved_in_the_file(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny_model()
    finally:
        keras.config.set_dtype_policy("float32")
    model.get_layer("block_0").trainable = False
    before = model.predict(images(model), verbose=0)
    model.save(tmp_path / "model.keras")

    loaded = load_model(tmp_path / "model.keras")

    assert not loaded.get_layer("block_0").trainable
    assert loaded.get_layer("block_0").compute_dtype == "bfloat16"
    assert before.dtype == "float32"
    assert (loaded.predict(images(model), verbose=0) == before).all()


def test_build_vit_takes_a_config_and_overrides():
    config = ViTConfig.from_fields(image_size=(16, 24), num_classes=5, **TINY)

    assert get_config(build_vit(config)) == config
    assert get_config(build_vit(config, num_classes=7)).num_classes == 7


def test_default_preprocessing_fits_the_channels():
    assert build_vit("vit_mini7", channels=1).preprocessing.mean == (0.5,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preprocessing": Preprocessing(32)}, r"Got \(32, 32\) for a model of \(16, 24\)"),
        ({"channels": 1, "preprocessing": Preprocessing((16, 24))}, "Got 3 for .* channels=1"),
        ({"class_names": ["cat", "dog"]}, "Got 2 names for num_classes=5"),
        ({"class_names": list("abcda")}, "Got 4 names for num_classes=5"),
    ],
)
def test_preprocessing_and_class_names_of_another_model_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        tiny_model(**options)


def test_shifted_patches_are_normalised_and_saved(tmp_path):
    model = tiny_model(stem="shifted_patches")
    model.save(tmp_path / "model.keras")

    assert model.get_layer("patches").output.shape == (None, 24, 5 * 48)
    assert model.get_layer("patch_norm").count_params() == 2 * 5 * 48
    before = model.predict(images(model), verbose=0)
    assert (load_model(tmp_path / "model.keras").predict(images(model), verbose=0) == before).all()


def test_get_config_refuses_other_keras_models():
    with pytest.raises(InputError, match="build_vit"):
        get_config(keras.Sequential([keras.layers.Dense(2)]))


def test_load_model_names_the_broken_file(tmp_path):
    broken = tmp_path / "broken.keras"
    model = tiny_model()
    model.save(broken)
    content = broken.read_bytes()
    broken.write_bytes(content[:5000])

    with pytest.raises(InputError, match="broken.keras is not a complete .keras file"):
        load_model(broken)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    broken.write_bytes(flipped)
    with pytest.raises(InputError, match="broken.keras cannot be loaded"):
        load_model(broken)
    with pytest.raises(InputError, match="nothing.keras does not exist"):
        load_model(tmp_path / "nothing.keras")


@pytest.mark.slow
def test_importing_the_library_imports_no_heavy_package():
    code = "import sys, json, vit_keras; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    alone = "import sys, json, keras; print(json.dumps(sorted(sys.modules)))"
    keras_alone = subprocess.run(
        [sys.executable, "-c", alone], capture_output=True, text=True, check=True
    )
    added = {name.split(".")[0] for name in json.loads(result.stdout)} - {
        name.split(".")[0] for name in json.loads(keras_alone.stdout)
    }
    assert "vit_keras" in added
    assert added <= {"vit_keras", "difflib"}
