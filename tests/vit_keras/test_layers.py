"""All layers: wrong arguments, saved configs, use in functional models, examples."""

import dataclasses
import doctest

import keras
import numpy as np
import pytest
from support.layers import random_tokens

import vit_keras
from vit_keras import (
    MLP,
    AttentionPool,
    BlockConfig,
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
def test_wrong_arguments_raise_input_errors(make, message):
    with pytest.raises(InputError, match=message):
        make()


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
def test_layer_configs_survive_two_round_trips(layer):
    once = type(layer).from_config(layer.get_config())
    twice = type(layer).from_config(once.get_config())

    assert twice.get_config() == layer.get_config()


def test_layers_work_in_a_functional_model(tmp_path):
    images = keras.Input((8, 8, 3))
    x = PatchEncoder(12, (2, 2))(Patches(4)(images))
    x = Pool("mean")(TransformerBlock(3, 24)(x))
    model = keras.Model(images, keras.layers.Dense(2)(x))
    batch = random_tokens(4, 8, 8, 3)
    before = model.predict(batch, verbose=0)
    model.save(tmp_path / "model.keras")

    after = keras.models.load_model(tmp_path / "model.keras").predict(batch, verbose=0)

    assert (before == after).all()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(batch, np.array([0, 1, 0, 1]), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert vit_keras.Patches is Patches


@pytest.mark.parametrize("layer", [Patches, PatchEncoder, TransformerBlock])
def test_examples_in_docstrings_run(layer):
    names = {"keras": keras, layer.__name__: layer}
    example = doctest.DocTestParser().get_doctest(layer.__doc__, names, layer.__name__, None, 0)

    results = doctest.DocTestRunner().run(example)

    assert results.attempted > 0
    assert results.failed == 0


def test_a_block_config_and_its_fields_make_the_same_layer():
    block = BlockConfig(heads=2, mlp_width=10, gelu="tanh", attention_dropout=0.1)

    layers = [
        TransformerBlock(block=block, name="block"),
        TransformerBlock(heads=2, mlp_width=10, gelu="tanh", attention_dropout=0.1, name="block"),
        TransformerBlock(heads=2, block=dataclasses.replace(block, heads=1), name="block"),
    ]

    configs = [layer.get_config() for layer in layers]
    assert configs[0] == configs[1] == configs[2]
    assert {layer.attention.block for layer in layers} == {block}
