"""A variant's name or ViTConfig -> functional keras.Model, images to logits."""

import dataclasses
import pathlib
import zipfile

import keras

from vit_keras.config import ViTConfig
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.layers.block import TransformerBlock
from vit_keras.layers.embedding import PatchDropout, PatchEncoder, Patches
from vit_keras.layers.merging import tokens_and_sizes
from vit_keras.layers.norm import LayerNorm
from vit_keras.layers.pooling import AttentionPool, Pool, SequencePool
from vit_keras.layers.stems import ConvolutionStem, ResNetStem
from vit_keras.utils.errors import InputError, first_line
from vit_keras.variants import resolve_config

HEADS = ("head", "head_dist")  # names of the layers that give logits; the second if distilled


@keras.saving.register_keras_serializable(package="vit_keras")
class ViT(keras.Model):
    """A functional model which also carries what its users need; made by `build_vit`.

    Everything below is saved in the .keras file.

    Attributes:
        config: ViTConfig.
        preprocessing: Preprocessing, uint8 images of any size -> this model's input.
        class_names: tuple of the classes' names in the order of the logits, or empty.
        description: what its weights are, in words; may be set.
        trained_on: name of the dataset that the weights were trained on, or ""; may be set.
        task: what the model computes; a class attribute.
    """

    task = "classification"

    # *args and **kwargs: only with this signature does every Keras since 3.12 revive a subclass as
    # a functional model.
    def __init__(
        self, *args, config, preprocessing, class_names=(), description="", trained_on="", **kwargs
    ):
        super().__init__(*args, **kwargs)
        self.config = ViTConfig.from_fields(**config)
        self.preprocessing = Preprocessing(**preprocessing)
        self.class_names = tuple(class_names)
        self.description = description
        self.trained_on = trained_on

    def get_config(self):
        return {
            **super().get_config(),
            "config": self.config.to_fields(),
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "class_names": list(self.class_names),
            "description": self.description,
            "trained_on": self.trained_on,
        }


def build_vit(
    variant="vit_b16", *, preprocessing=None, class_names=(), name=None, **overrides
) -> ViT:
    """Builds a Vision Transformer as a functional model with named layers.

    Input `images`: float32 (batch, height, width, channels), normalised.
    Output `head`, or `logits` of a distilled model: (batch, num_classes); with num_classes=0 the
    pooled token (batch, width).

    Args:
        variant: a row of `vit_keras.VARIANTS`, or a ViTConfig.
        preprocessing: Preprocessing that belongs to the model; by default a centre crop, resized
            bilinearly and scaled to [-1, 1] as for Google's checkpoints.
        class_names: names of the classes in the order of the logits.
        name: of the model; the variant's by default.
        **overrides: fields of ViTConfig: image_size, num_classes, pooling, ...

    Raises:
        InputError: unknown variant or field, a config no ViT can be built from, or preprocessing
            or class names that do not fit it.
    """
    config = resolve_config(variant, **overrides)
    preprocessing = preprocessing or default_preprocessing(config)
    class_names = tuple(map(str, class_names))
    check_fits(config, preprocessing, class_names)
    images = keras.Input((*config.image_size, config.channels), name="images")
    return ViT(
        images,
        _output(config, images),
        name=name or (variant if isinstance(variant, str) else "vit"),
        config=config.to_fields(),
        preprocessing=dataclasses.asdict(preprocessing),
        class_names=class_names,
    )


def default_preprocessing(config: ViTConfig) -> Preprocessing:
    """A centre crop, resized bilinearly and scaled to [-1, 1]"""
    half = (0.5,) * config.channels
    return Preprocessing(config.image_size, mean=half, std=half)


def get_config(model) -> ViTConfig:
    """The ViTConfig of a model that was built, loaded or fine-tuned.

    Raises:
        InputError: for a model that `build_vit` did not make.
    """
    if not isinstance(model, ViT):
        raise InputError(
            f"only models made by vit_keras.build_vit carry a ViTConfig. "
            f"Got {model!r}; build one and copy its weights over."
        )
    return model.config


def load_model(path) -> ViT:
    """Loads a .keras file of a model that `build_vit` made, without compiling it.

    Raises:
        InputError: where there is none, or the file is broken or holds another model.
    """
    model = load_any(path)
    get_config(model)
    return model


def load_any(path) -> keras.Model:
    """Loads a .keras file of any model, without compiling it.

    Raises:
        InputError: where there is none, or the file is broken.
    """
    if not pathlib.Path(path).exists():
        raise InputError(f"{path} does not exist.")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no whole .keras file.")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a broken file can fail in any of its layers: zip, JSON, HDF5
        raise InputError(
            f"{path} cannot be loaded as a .keras model: {first_line(error)}"
        ) from error


def _output(config, images):
    """Images -> the one output of the model: logits, or the pooled token."""
    tokens = embed(config, images)
    if config.patch_dropout:
        tokens = PatchDropout(config.patch_dropout, config.prefix_count, name="patch_dropout")(
            tokens
        )
    tokens, sizes = transform(config, tokens)
    if not config.norm_after_pooling:
        tokens = norm(config, "norm")(tokens)
    tokens = tokens if sizes is None else [tokens, sizes]
    outputs = [
        _head(config, _pool(config, name)(tokens), name.removeprefix("pool"))
        for name in (("pool", "pool_dist") if config.distilled else ("pool",))
    ]
    # DeiT, section 4: at inference the mean of what both heads say.
    return (
        keras.layers.Average(name="logits", dtype="float32")(outputs)
        if config.distilled
        else outputs[0]
    )


def embed(config, images, masked=None):
    """Images (and which of their patches to hide) -> the tokens that enter the first block."""
    patch_size, x = config.patch_size, images
    if config.stem == "resnet":
        x = ResNetStem(config.stem_width, config.stem_blocks, name="stem")(x)
        patch_size //= config.stem_stride
    if config.stem == "convolutions":
        layers = config.stem_layers
        x = ConvolutionStem(
            config.width, layers, config.stem_kernel, config.stem_width, name="stem"
        )(x)
    else:
        x = Patches(patch_size, config.stem == "shifted_patches", name="patches")(x)
    if config.stem == "shifted_patches":
        x = norm(config, "patch_norm")(x)
    prefix = config.prefix_tokens
    x = PatchEncoder(
        config.width,
        config.grid,
        cls_token="cls" in prefix,
        dist_token="dist" in prefix,
        registers=config.registers,
        positions=config.positions,
        prefix_positions=config.prefix_positions,
        projected=config.stem != "convolutions",
        use_bias=not config.pre_norm,
        mask_token=masked is not None,
        name="patch_encoder",
    )(x if masked is None else [x, masked])
    x = keras.layers.Dropout(config.block.dropout, name="dropout")(x)
    return norm(config, "pre_norm")(x) if config.pre_norm else x


def transform(config, tokens, prefix="block"):
    """Tokens -> tokens behind the last block, not normed, and how many patches each stands for.

    The latter is None where none were merged, or only tokens before the patches are left.
    """
    inputs = tokens
    for index in range(config.depth):
        trimmed = config.trim_last_block and index == config.depth - 1
        inputs = TransformerBlock(
            block=config.block,
            stochastic_depth=config.stochastic_depth * index / max(1, config.depth - 1),
            queries=1 + config.distilled if trimmed else 0,
            merge_tokens=config.merge_tokens if config.merge_tokens and not trimmed else None,
            prefix=config.prefix_count,
            name=f"{prefix}_{index}",
        )(inputs)
    return tokens_and_sizes(inputs)


def norm(config, name):
    """The config's LayerNorm"""
    return LayerNorm(config.block.norm_epsilon, name=name)


def _pool(config, name):
    if config.pooling == "map":
        return AttentionPool(block=config.block, prefix=config.prefix_count, name=name)
    if config.pooling == "sequence":
        return SequencePool(name=name)
    kind = "dist" if name == "pool_dist" else config.pooling
    return Pool(kind, config.prefix_count, name=name)


def _head(config, x, suffix):
    """Pooled token -> logits, or the pooled token where there are no classes"""
    if config.norm_after_pooling:
        x = norm(config, "norm")(x)
    if config.head_width:
        x = keras.layers.Dense(config.head_width, activation="tanh", name=f"pre_logits{suffix}")(x)
    if not config.num_classes:
        return x
    # float32 also under mixed precision: the loss needs the digits.
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    return keras.layers.Dense(
        config.num_classes, kernel_initializer=initializer, name=f"head{suffix}", dtype="float32"
    )(x)


def check_fits(config, preprocessing, class_names=()):
    """Refuses preprocessing and class names that are for another model."""
    if preprocessing.image_size != config.image_size:
        raise InputError(
            f"preprocessing must give images of the model's size. "
            f"Got {preprocessing.image_size} for a model of {config.image_size}."
        )
    if preprocessing.channels != config.channels:
        raise InputError(
            f"preprocessing needs a mean and std for each of the model's channels. "
            f"Got {preprocessing.channels} for a model of channels={config.channels}."
        )
    if class_names and len(set(class_names)) != config.num_classes:
        raise InputError(
            f"class_names must name every class, each with another name. "
            f"Got {len(set(class_names))} names for num_classes={config.num_classes}."
        )
