"""Each layer computes what the paper says: by hand on tiny shapes, or as plain NumPy does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy.special import erf
from support.tiny import tiny_model

import vit_keras
from vit_keras import (
    MLP,
    AttentionPool,
    ConvolutionStem,
    InputError,
    LayerNorm,
    MultiHeadSelfAttention,
    PatchEncoder,
    Patches,
    Pool,
    ResNetStem,
    SequencePool,
    TransformerBlock,
)
from vit_keras.layers.attention import softmax
from vit_keras.layers.mlp import gelu
from vit_keras.layers.positions import sincos2d
from vit_keras.tasks.masked import Unpatch


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def randomised(layer, shape, seed=0):
    """The layer, built for `shape`, with random weights"""
    layer.build(shape)
    random = np.random.default_rng(seed)
    layer.set_weights([0.3 * random.standard_normal(w.shape) for w in layer.get_weights()])
    return layer


def tokens(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype("float32")


def test_patches_are_cut_row_by_row():
    image = np.arange(16).reshape(1, 4, 4, 1)  # 0..15, left to right, top to bottom

    patches = numpy(Patches(size=2)(image))

    assert patches.tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]


def test_patches_keep_channels_together_and_images_apart():
    images = tokens(3, 4, 6, 2)

    patches = numpy(Patches(size=2)(images))

    assert patches.shape == (3, 6, 8)
    for image in range(3):
        for row in range(2):
            for column in range(3):
                box = images[image, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                assert (patches[image, 3 * row + column] == box.ravel()).all()


def test_patches_refuse_images_they_cannot_cut():
    with pytest.raises(InputError, match="size=4 and images of shape"):
        Patches(size=4)(np.zeros((1, 8, 6, 3)))
    with pytest.raises(InputError, match="known size"):
        Patches(size=4)(keras.Input((None, None, 3)))


def test_shifted_patches_also_see_half_a_patch_further_on_the_diagonals():
    image = np.arange(1, 17).reshape(1, 4, 4, 1)  # 1..16, left to right, top to bottom

    patches = numpy(Patches(size=2, shifted=True)(image))

    assert patches.shape == (1, 4, 20)
    pixels = patches.reshape(4, 2, 2, 5)  # (patch, y, x, itself and four shifted)
    top_left, bottom_right = pixels[0], pixels[3]
    assert top_left[..., 0].tolist() == [[1, 2], [5, 6]]
    assert top_left[..., 1].tolist() == [[0, 0], [0, 1]]  # up and left: behind the border is zero
    assert top_left[..., 2].tolist() == [[0, 0], [2, 3]]  # up and right
    assert top_left[..., 3].tolist() == [[0, 5], [0, 9]]  # down and left
    assert top_left[..., 4].tolist() == [[6, 7], [10, 11]]  # down and right
    assert bottom_right[..., 4].tolist() == [[16, 0], [0, 0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Patches(0), "size=0"),
        (lambda: PatchEncoder(8, (2, 2), positions="sincos"), "positions='sincos'"),
        (lambda: PatchEncoder(6, (2, 2), positions="sincos2d"), "try width=8"),
        (lambda: MultiHeadSelfAttention(0), "heads=0"),
        (lambda: TransformerBlock(2, 8, gelu="fast"), "gelu='fast'"),
        (lambda: TransformerBlock(2, 0), "mlp_width=0"),
        (lambda: TransformerBlock(2), "needs mlp_width"),
        (lambda: MLP(), "needs hidden, or block="),
        (lambda: Pool("max"), "kind='max'"),
    ],
)
def test_wrong_arguments_are_refused_where_they_enter(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_encoder_projects_and_puts_the_token_first_and_adds_positions():
    layer = randomised(PatchEncoder(8, (1, 2), cls_token=True), (None, 2, 6))
    patches = tokens(3, 2, 6)
    kernel, bias = (numpy(w) for w in layer.projection.weights)
    cls, table = numpy(layer.prefix_table[0]), numpy(layer.position_table)

    encoded = numpy(layer(patches))

    assert encoded.shape == (3, 3, 8)
    np.testing.assert_allclose(encoded[:, 0], np.tile(cls[0] + table[0, :1], (3, 1)), atol=1e-6)
    np.testing.assert_allclose(encoded[:, 1:], patches @ kernel + bias + table[:, 1:], atol=1e-6)


def test_encoder_refuses_another_grid():
    with pytest.raises(InputError, match="2x3 = 6 patches. Got 4"):
        PatchEncoder(8, (2, 3))(np.zeros((1, 4, 12)))


def test_fixed_positions_by_hand():
    table = sincos2d(rows=2, columns=2, width=8)

    assert table.shape == (4, 8)
    # Frequencies 1 and 1/10,000; the third patch is x = 0, y = 1.
    slow = 1e-4
    expected = [0, 0, 1, 1, np.sin(1), np.sin(slow), np.cos(1), np.cos(slow)]
    np.testing.assert_allclose(table[2], expected, atol=1e-7)
    np.testing.assert_allclose(table[1], [*expected[4:], 0, 0, 1, 1], atol=1e-7)


def test_attention_is_the_papers():
    layer = randomised(MultiHeadSelfAttention(heads=2), (None, 5, 6))
    x = tokens(3, 5, 6)
    kernel, bias, out_kernel, out_bias = layer.get_weights()
    q, k, v = np.split(x @ kernel + bias, 3, axis=-1)

    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        scores = np.exp(q[..., part] @ k[..., part].swapaxes(1, 2) / np.sqrt(3))
        heads.append(scores / scores.sum(-1, keepdims=True) @ v[..., part])
    expected = np.concatenate(heads, -1) @ out_kernel + out_bias

    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-5)


def test_attention_equals_keras_own():
    ours = randomised(MultiHeadSelfAttention(heads=2), (None, 5, 6))
    theirs = keras.layers.MultiHeadAttention(2, 3)
    x = tokens(3, 5, 6)
    theirs.build(x.shape, x.shape)
    kernel, bias, out_kernel, out_bias = ours.get_weights()
    split = [
        part
        for kernel_part, bias_part in zip(np.split(kernel, 3, 1), np.split(bias, 3, 0), strict=True)
        for part in (kernel_part.reshape(6, 2, 3), bias_part.reshape(2, 3))
    ]
    theirs.set_weights([*split, out_kernel.reshape(2, 3, 6), out_bias])

    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x, x)), atol=1e-5)


def test_attention_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(InputError, match="heads=4, width=6"):
        MultiHeadSelfAttention(heads=4)(tokens(1, 2, 6))


@pytest.mark.parametrize("form", ["exact", "tanh"])
def test_block_is_norm_attention_norm_mlp_with_residuals(form):
    layer = randomised(TransformerBlock(heads=2, mlp_width=10, gelu=form), (None, 5, 6))
    x = tokens(3, 5, 6)

    after_attention = x + numpy(layer.attention(layer.norm1(x)))
    hidden = numpy(layer.mlp.expand(layer.norm2(after_attention)))
    if form == "exact":
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    else:
        hidden = hidden / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    expected = after_attention + numpy(layer.mlp.reduce(hidden))

    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-5)


def test_the_two_gelus_differ():
    x = tokens(1000)

    difference = np.abs(numpy(gelu(x, "exact")) - numpy(gelu(x, "tanh"))).max()

    assert 1e-4 < difference < 1e-3


def test_layer_norm_equals_keras_own():
    ours, theirs = LayerNorm(epsilon=1e-3), keras.layers.LayerNormalization(epsilon=1e-3)
    x = 5 + 3 * tokens(4, 7, 6)
    randomised(ours, x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())

    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=1e-5)


def test_layer_norm_stays_finite_in_half_precision():
    layer = LayerNorm(dtype="mixed_float16")

    normed = numpy(layer(np.full((1, 2, 4), 3e4, "float16") * np.array([1, -1, 1, -1])))

    assert normed.dtype == "float16"
    np.testing.assert_allclose(normed[0, 0], [1, -1, 1, -1], atol=1e-3)


def test_pool_takes_one_token_or_the_mean_of_the_patches():
    x = tokens(2, 5, 4)

    np.testing.assert_array_equal(numpy(Pool("cls")(x)), x[:, 0])
    np.testing.assert_array_equal(numpy(Pool("dist")(x)), x[:, 1])
    np.testing.assert_allclose(numpy(Pool("mean")(x)), x.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(numpy(Pool("mean", prefix=2)(x)), x[:, 2:].mean(axis=1), atol=1e-6)


def test_sequence_pool_weighs_tokens_by_a_softmax():
    layer = randomised(SequencePool(), (None, 5, 4))
    x = tokens(3, 5, 4)
    kernel, bias = layer.get_weights()

    importance = np.exp(x @ kernel + bias)
    expected = (importance / importance.sum(axis=1, keepdims=True) * x).sum(axis=1)

    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-6)


def test_local_attention_has_a_temperature_and_never_looks_at_itself():
    layer = randomised(MultiHeadSelfAttention(heads=2, qkv_bias=False, local=True), (None, 5, 6))
    x = tokens(3, 5, 6)
    weights = {weight.path.split("/")[-2:][-1]: numpy(weight) for weight in layer.weights}
    temperature = weights["temperature"]
    q, k, v = np.split(x @ numpy(layer.qkv.kernel), 3, axis=-1)

    heads = []
    for head, part in enumerate((slice(0, 3), slice(3, 6))):
        scores = np.exp(q[..., part] @ k[..., part].swapaxes(1, 2) / temperature[head])
        scores = scores * (1 - np.eye(5))
        heads.append(scores / scores.sum(-1, keepdims=True) @ v[..., part])
    expected = np.concatenate(heads, -1) @ numpy(layer.projection.kernel)

    np.testing.assert_allclose(numpy(layer(x)), expected + numpy(layer.projection.bias), atol=1e-4)


def test_local_attention_starts_as_the_usual_temperature():
    layer = MultiHeadSelfAttention(heads=2, local=True)
    layer.build((None, 5, 8))

    np.testing.assert_allclose(numpy(layer.temperature).ravel(), [2, 2])  # sqrt(8 / 2)


def test_swiglu_multiplies_the_silu_of_one_half_by_the_other():
    layer = randomised(MLP(10, swiglu=True), (None, 5, 6))
    x = tokens(3, 5, 6)
    expand, expand_bias, reduce, reduce_bias = layer.get_weights()

    a, b = np.split(x @ expand + expand_bias, 2, axis=-1)
    expected = (a / (1 + np.exp(-a)) * b) @ reduce + reduce_bias

    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-5)


def test_quick_gelu_is_openais():
    x = tokens(100)

    np.testing.assert_allclose(numpy(gelu(x, "quick")), x / (1 + np.exp(-1.702 * x)), atol=1e-6)


def test_layer_scale_multiplies_both_branches():
    plain = TransformerBlock(heads=2, mlp_width=10, name="block")
    scaled = TransformerBlock(heads=2, mlp_width=10, layer_scale=0.5, name="block")
    randomised(plain, (None, 5, 6))
    scaled.build((None, 5, 6))
    weights = {weight.path: weight for weight in plain.weights}
    for weight in scaled.weights:
        if "scale" not in weight.path:
            weight.assign(weights[weight.path])
    x = tokens(2, 5, 6)

    after_attention = x + 0.5 * numpy(plain.attention(plain.norm1(x)))
    expected = after_attention + 0.5 * numpy(plain.mlp(plain.norm2(after_attention)))

    np.testing.assert_allclose(numpy(scaled(x)), expected, atol=1e-5)


def test_prefix_tokens_stand_in_order_and_may_go_without_positions():
    layer = PatchEncoder(
        8, (1, 2), cls_token=True, dist_token=True, registers=2, prefix_positions=False
    )
    randomised(layer, (None, 2, 6))
    cls, dist, registers = (numpy(token)[0] for token in layer.prefix_table)

    encoded = numpy(layer(np.zeros((1, 2, 6), "float32")))[0]

    assert layer.position_table.shape == (1, 2, 8)
    np.testing.assert_array_equal(encoded[:4], np.concatenate([cls, dist, registers]))
    expected = numpy(layer.projection.bias) + numpy(layer.position_table)[0]
    np.testing.assert_allclose(encoded[4:], expected, atol=1e-6)


def test_masked_patches_become_one_token_with_their_positions():
    layer = randomised(PatchEncoder(8, (1, 3), mask_token=True), [(None, 3, 6), (None, 3)])
    patches = tokens(1, 3, 6)

    hidden = numpy(layer([patches, np.array([[0, 1, 1]])]))[0] - numpy(layer.position_table)[0]

    shown = numpy(layer([patches, np.zeros((1, 3))]))[0] - numpy(layer.position_table)[0]
    np.testing.assert_allclose(hidden[0], shown[0], atol=1e-6)
    np.testing.assert_allclose(hidden[1], numpy(layer.mask)[0, 0], atol=1e-6)
    np.testing.assert_allclose(hidden[2], hidden[1], atol=1e-6)


def test_convolution_stem_is_relu_and_max_pooling_by_hand():
    layer = ConvolutionStem(tokens_width=1, layers=1, kernel=3)
    image = np.arange(-8, 8, dtype="float32").reshape(1, 4, 4, 1)
    layer.build(image.shape)
    identity = np.zeros((3, 3, 1, 1))
    identity[1, 1] = 1
    layer.set_weights([identity])

    # ReLU leaves 0..7 in the two lower rows; 3x3 windows at every other pixel, from the first on.
    assert numpy(layer(image)).tolist() == [[[2], [3], [6], [7]]]


def test_unpatch_is_the_inverse_of_patches():
    images = tokens(2, 8, 12, 3)

    np.testing.assert_array_equal(numpy(Unpatch((2, 3), 4)(Patches(4)(images))), images)


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    keras.utils.set_random_seed(0)
    layer = randomised(TransformerBlock(heads=2, mlp_width=10, stochastic_depth=0.5), (None, 5, 6))
    # An MLP of zero leaves x + attention, which is either dropped or doubled.
    layer.mlp.reduce.set_weights([np.zeros((10, 6)), np.zeros(6)])
    x = np.repeat(tokens(1, 5, 6), 64, axis=0)
    branch = numpy(layer(x)) - x

    trained = numpy(layer(x, training=True)) - x

    dropped = np.array([(image == 0).all() for image in trained])
    assert 16 < dropped.sum() < 48
    np.testing.assert_allclose(trained[~dropped], 2 * branch[~dropped], atol=1e-5)


def test_dropout_works_in_training_alone():
    layer = randomised(
        TransformerBlock(heads=2, mlp_width=10, dropout=0.5, attention_dropout=0.5), (None, 5, 6)
    )
    x = tokens(2, 5, 6)

    assert (numpy(layer(x)) == numpy(layer(x))).all()
    assert (numpy(layer(x, training=True)) != numpy(layer(x, training=True))).any()


@pytest.mark.parametrize(
    "layer",
    [
        Patches(2, shifted=True, name="patches"),
        PatchEncoder(8, (1, 2), cls_token=True, positions="sincos2d"),
        MultiHeadSelfAttention(2, dropout=0.1, qkv_bias=False, qk_norm=True, local=True),
        TransformerBlock(
            2,
            10,
            dropout=0.1,
            attention_dropout=0.2,
            stochastic_depth=0.3,
            norm_epsilon=1e-5,
            layer_scale=0.1,
            gelu="tanh",
            local=True,
            merge_tokens=3,
            prefix=1,
        ),
        MLP(10, swiglu=True),
        AttentionPool(2, 10, gelu="quick"),
        SequencePool(),
        ConvolutionStem(8, layers=2, kernel=7),
        ResNetStem(32, (1, 2)),
        Pool("mean"),
        LayerNorm(epsilon=1e-5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_survive_two_rounds_of_their_config(layer):
    once = type(layer).from_config(layer.get_config())
    twice = type(layer).from_config(once.get_config())

    assert twice.get_config() == layer.get_config()


def test_layers_work_in_anybodys_functional_model(tmp_path):
    images = keras.Input((8, 8, 3))
    x = PatchEncoder(12, (2, 2))(Patches(4)(images))
    x = Pool("mean")(TransformerBlock(3, 24)(x))
    model = keras.Model(images, keras.layers.Dense(2)(x))
    batch = tokens(4, 8, 8, 3)
    before = model.predict(batch, verbose=0)
    model.save(tmp_path / "model.keras")

    after = keras.models.load_model(tmp_path / "model.keras").predict(batch, verbose=0)

    assert (before == after).all()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(batch, np.array([0, 1, 0, 1]), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert vit_keras.Patches is Patches


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_large_logits_and_their_gradients_stay_finite(policy):
    attention = vit_keras.MultiHeadSelfAttention(2, dtype=policy)
    tokens = tf.constant(np.random.default_rng(0).normal(size=(2, 5, 8)), tf.float32)
    attention.build(tokens.shape)
    kernel, *rest = attention.qkv.get_weights()
    attention.qkv.set_weights([kernel * 150, *rest])  # logits of some ten thousand
    query, key, _ = np.split(np.asarray(attention.qkv(tokens), "float32")[0], 3, axis=-1)
    assert 1e4 < np.abs(query[:, :4] @ key[:, :4].T / 2).max() < 6e4

    with tf.GradientTape() as tape:
        found = attention(tokens)
    gradients = tape.gradient(found, attention.trainable_weights)

    assert np.isfinite(np.asarray(found, "float32")).all()
    assert all(np.isfinite(np.asarray(gradient, "float32")).all() for gradient in gradients)


def test_softmax_is_that_of_float32_in_half_precision():
    scores = np.array([[0.0, 1e-3, 2e-3] * 700], "float16")

    found = np.asarray(softmax(tf.constant(scores)))

    x = scores.astype("float64")
    expected = np.exp(x) / np.exp(x).sum()
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, expected.astype("float16"))


@pytest.mark.parametrize("prefix", [0, 2])
def test_patch_dropout_keeps_a_random_subset_in_training_alone(prefix):
    tokens = np.random.default_rng(0).normal(size=(6, prefix + 8, 3)).astype("float32")
    layer = vit_keras.PatchDropout(0.4, prefix)

    np.testing.assert_array_equal(layer(tokens), tokens)
    kept = np.asarray(layer(tokens, training=True))

    assert kept.shape == (6, prefix + 5, 3)
    np.testing.assert_array_equal(kept[:, :prefix], tokens[:, :prefix])
    rows = [
        {int(np.flatnonzero((before == token).all(-1)).item()) for token in after}
        for before, after in zip(tokens[:, prefix:], kept[:, prefix:], strict=True)
    ]
    assert all(len(row) == 5 for row in rows)  # each at most once
    assert len(set(map(frozenset, rows))) > 3


def test_models_drop_patches_in_training_and_none_at_inference():
    plain = tiny_model(pooling="mean")
    dropping = vit_keras.build_vit(plain.config, patch_dropout=0.5)
    dropping.set_weights(plain.get_weights())
    images = np.random.default_rng(0).normal(size=(2, 16, 24, 3))

    np.testing.assert_array_equal(dropping(images), plain(images))
    trained = dropping(images, training=True)

    assert np.abs(np.asarray(trained) - np.asarray(plain(images))).max() > 1e-3
    tokens = keras.Model(dropping.input, dropping.get_layer("block_0").output)
    assert tokens(images, training=True).shape == (2, 12, 48)
