"""A ViTConfig and images -> tokens: the parts that all models of the family share."""

import keras

from vit_keras.config import ViTConfig
from vit_keras.layers.block import TransformerBlock
from vit_keras.layers.embedding import PatchEncoder, Patches
from vit_keras.layers.merging import tokens_and_sizes
from vit_keras.layers.norm import LayerNorm
from vit_keras.layers.stems import ConvolutionStem, ResNetStem
from vit_keras.utils.types import Tensor


def image_input(config: ViTConfig) -> Tensor:
    """Makes the input `images`: float32 (batch, height, width, channels), normalised.

    Args:
        config: ViTConfig.

    Returns:
        A symbolic tensor.
    """
    return keras.Input((*config.image_size, config.channels), name="images")


def embed(config: ViTConfig, images: Tensor, masked: Tensor = None) -> Tensor:
    """Turns images into the tokens that enter the first block.

    Args:
        config: ViTConfig.
        images: symbolic (batch, height, width, channels).
        masked: symbolic (batch, patches), 1 for the patches to hide; None to hide none.

    Returns:
        (batch, prefix + patches, width).
    """
    x = _stem(config, images)
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


def _stem(config: ViTConfig, x: Tensor) -> Tensor:
    """Images -> flat patches (batch, patches, pixels), or tokens from stem "convolutions"."""
    if config.stem == "convolutions":
        return ConvolutionStem(
            config.width, config.stem_layers, config.stem_kernel, config.stem_width, name="stem"
        )(x)
    if config.stem == "resnet":
        x = ResNetStem(config.stem_width, config.stem_blocks, name="stem")(x)
    shifted = config.stem == "shifted_patches"
    x = Patches(config.patch_size // config.stem_stride, shifted, name="patches")(x)
    return norm(config, "patch_norm")(x) if shifted else x


def transform(config: ViTConfig, tokens: Tensor, prefix: str = "block") -> tuple[Tensor, Tensor]:
    """Applies the transformer blocks.

    Args:
        config: ViTConfig.
        tokens: symbolic (batch, tokens, width).
        prefix: start of the blocks' names; their numbers follow.

    Returns:
        The last block's tokens, not normalised, and the number of patches in each token, (batch,
        tokens, 1). The latter is None if no tokens were merged, or only tokens before the patches
        are left.
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


def norm(config: ViTConfig, name: str) -> LayerNorm:
    """Makes a LayerNorm with the config's epsilon.

    Args:
        config: ViTConfig.
        name: of the layer.

    Returns:
        The layer.
    """
    return LayerNorm(config.block.norm_epsilon, name=name)
