"""Masked models: the patches they see, their losses, and the options they work with."""

import keras
import numpy as np
import pytest
from support.checkpoints import FIXTURES, checkpoint_path
from support.masked import DECODER, HIDDEN, IMAGES, NOISE, RANDOM, masked_model
from support.tiny import TINY

from vit_keras import DecoderConfig, InputError, Patches, build_mae, build_mim, from_weights
from vit_keras.layers.positions import sincos2d
from vit_keras.tasks.masked import visible_patches

FAMILY = {
    "cls": {},
    "mean, fixed positions": {"pooling": "mean", "positions": "sincos2d"},
    "registers": {"registers": 3, "prefix_positions": False},
    "distilled": {"distilled": True},
    "attention pooling": {"pooling": "map"},
    "layer scale, q/k norm": {"layer_scale": 0.1, "qk_norm": True},
}


@pytest.mark.parametrize("build", [build_mae, build_mim])
@pytest.mark.parametrize("options", FAMILY.values(), ids=FAMILY)
def test_outputs_do_not_depend_on_hidden_patches(build, options):
    model, inputs = masked_model(build, options)
    grid = np.repeat(np.repeat(HIDDEN.reshape(2, 4, 6, 1), 4, axis=1), 4, axis=2)
    others = {**inputs, "images": np.where(grid, RANDOM.normal(size=IMAGES.shape), IMAGES)}
    visible = {**inputs, "images": np.where(grid, IMAGES, IMAGES + 0.1)}

    output, hidden_changed, visible_changed = (
        np.asarray(keras.tree.flatten(model.predict_on_batch(batch))[-1])
        for batch in (inputs, others, visible)
    )

    np.testing.assert_array_equal(output, hidden_changed)
    assert np.abs(output - visible_changed).max() > 1e-3


@pytest.mark.parametrize("options", FAMILY.values(), ids=FAMILY)
def test_mae_encodes_a_quarter_of_the_patches_and_the_whole_prefix(options):
    model, inputs = masked_model(build_mae, options)
    prefix = model.config.prefix_count
    encoded = keras.Model(model.input, model.get_layer("norm").output)

    assert encoded(inputs).shape == (2, prefix + 6, 48)
    np.testing.assert_array_equal(model(inputs)["mask"], HIDDEN)
    assert model(inputs)["prediction"].shape == (2, 24, 48)


def test_positions_of_the_decoder_are_fixed():
    model = build_mae("vit_b16", image_size=(16, 24), decoder=DECODER, **TINY)
    layer = model.get_layer("fill_in")

    assert [weight.name for weight in layer.non_trainable_weights] == ["positions"]
    table = np.asarray(layer.position_table)[0]
    np.testing.assert_array_equal(table[0], 0)
    np.testing.assert_array_equal(table[1:], sincos2d(4, 6, 24))


@pytest.mark.parametrize(
    ("case", "name", "loss"),
    [("hf_mae", "noise", "loss"), ("fb_mae", "noise", "loss_norm_pix"), ("hf_mim", "mask", "loss")],
)
def test_loss_equals_that_of_the_original_code(case, name, loss):
    with np.load(FIXTURES / case / "io.npz") as io:
        expected = dict(io)
    model = from_weights(checkpoint_path(case))
    inputs = {"images": expected["images"], model.inputs[1].name: expected[name]}

    model.compile("sgd")

    assert model.evaluate(inputs, verbose=0) == pytest.approx(float(expected[loss]), abs=2e-5)


def test_pixels_are_the_target_without_normalisation():
    decoder = DecoderConfig(24, 1, 2, 48, normalised=False)
    model = build_mae("vit_b16", image_size=(16, 24), decoder=decoder, **TINY)
    model.compile("sgd")
    inputs = {"images": IMAGES, "noise": NOISE}

    loss = model.evaluate(inputs, verbose=0)

    error = np.square(np.asarray(model(inputs)["prediction"]) - np.asarray(Patches(4)(IMAGES)))
    assert loss == pytest.approx((error.mean(axis=2) * HIDDEN).sum() / HIDDEN.sum(), rel=1e-5)


@pytest.mark.parametrize("build", [build_mae, build_mim])
def test_loss_is_float32_under_a_global_float16_policy(build):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, inputs = masked_model(build)
        model.compile("sgd", jit_compile=False)
        loss = model.evaluate(inputs, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")

    float32_model, _ = masked_model(build)
    float32_model.set_weights(model.get_weights())
    float32_model.compile("sgd", jit_compile=False)
    assert loss == pytest.approx(float32_model.evaluate(inputs, verbose=0), rel=2e-2)


@pytest.mark.parametrize("options", FAMILY.values(), ids=FAMILY)
def test_from_weights_makes_a_classifier_of_an_encoder(options):
    model, _ = masked_model(build_mae, options)

    tuned = from_weights(model, num_classes=3, stochastic_depth=0.1)

    name = "block_1/mlp/reduce/kernel"
    kernels = [{w.path: w for w in each.weights}[name] for each in (model, tuned)]
    np.testing.assert_array_equal(*kernels)
    assert tuned(IMAGES).shape == (2, 3)


def test_an_encoder_with_a_cls_token_can_pool_the_mean_of_its_patches():
    model, _ = masked_model(build_mae)

    tuned = from_weights(model, num_classes=3, pooling="mean", norm_after_pooling=True)

    tokens = [{w.path: w for w in each.weights}["patch_encoder/cls"] for each in (model, tuned)]
    np.testing.assert_array_equal(*tokens)


@pytest.mark.slow
@pytest.mark.parametrize("build", [build_mae, build_mim])
def test_fit_lowers_the_loss_of_masked_models(build):
    model, inputs = masked_model(build)
    model.compile(keras.optimizers.Adam(1e-2))

    losses = model.fit(inputs, epochs=12, verbose=0).history["loss"]

    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("build", [build_mae, build_mim])
@pytest.mark.parametrize("stem", ["shifted_patches", "convolutions", "resnet"])
def test_stems_that_show_patches_to_their_neighbours_are_refused(build, stem):
    with pytest.raises(InputError, match=f"masked pre-training needs stem=.* Got stem='{stem}'"):
        build("vit_b16", stem=stem)


def test_visible_patches_are_rounded_down_and_wrong_decoders_are_refused():
    # Rounded down as int() in models_mae.py; ViT-B/16 sees 49 of 196.
    assert [visible_patches(196, 0.75), visible_patches(9, 0.75), visible_patches(4, 0.9)] == [
        49,
        2,
        1,
    ]
    with pytest.raises(InputError, match="an image of one patch has nothing to hide"):
        build_mae("vit_b16", image_size=4, **TINY)
    with pytest.raises(InputError, match="must be divisible by 4. Got 30"):
        DecoderConfig(width=30)
    with pytest.raises(InputError, match=r"mask_ratio must be a fraction in \(0, 1\)"):
        DecoderConfig(mask_ratio=1.0)
