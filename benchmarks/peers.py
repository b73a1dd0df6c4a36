"""ViTConfig -> keras.Model, images to logits, as this project and as each of its peers builds it.

The models built from one ViTConfig have the same tokens, width, depth, heads and MLP, and random
weights; they differ in how each of them is written. KerasHub's and the keras.io example's have
learned positions and exact GELU only.
"""

from collections.abc import Callable
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import KerasTensor, layers, ops

from training.recipes.fashion_mini import RECIPE
from vit_keras.config import ViTConfig, as_image_size
from vit_keras.model import build_vit
from vit_keras.variants import resolve_config


def default_config(**overrides: Any) -> ViTConfig:
    """Returns the config that `python -m training fit fashion_mini` trains, for its 10 classes."""
    options = RECIPE.model
    fields = {"num_classes": 10, **options.config, **overrides}
    return resolve_config(
        options.variant, image_size=options.image_size, channels=options.channels, **fields
    )


def keras_hub_vit(config: ViTConfig) -> keras.Model:
    """Builds KerasHub's ViTImageClassifier, without a download or a preprocessor."""
    cls_token = config.pooling == "cls"
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(*as_image_size(config.image_size), config.channels),
        patch_size=config.patch_size,
        num_layers=config.depth,
        num_heads=config.block.heads,
        hidden_dim=config.width,
        mlp_dim=config.block.mlp_width,
        dropout_rate=config.block.dropout,
        attention_dropout=config.block.attention_dropout,
        use_class_token=cls_token,
    )
    return keras_hub.models.ViTImageClassifier(
        backbone=backbone,
        num_classes=config.num_classes,
        preprocessor=None,
        pooling="token" if cls_token else "gap",
    )


def keras_io_vit(config: ViTConfig) -> keras.Model:
    """Builds keras.io's example "Image classification with Vision Transformer" in other sizes.

    Its blocks have the config's sizes, with width / heads numbers per head where the example has
    width. Mean pooling and one linear layer replace its wide MLP on all tokens: the example has no
    [CLS] token.
    """
    block = config.block
    images = keras.Input((*as_image_size(config.image_size), config.channels))
    x = _keras_io_tokens(images, config.patch_size, config.width)
    for _ in range(config.depth):
        x = _keras_io_block(
            x, block.heads, config.width // block.heads, block.mlp_width, block.dropout
        )
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(images, layers.Dense(config.num_classes)(x))


OURS = "vit-keras-edge"
BUILDERS: dict[str, Callable[[ViTConfig], keras.Model]] = {
    OURS: build_vit,
    "KerasHub": keras_hub_vit,
    "keras.io example": keras_io_vit,
}


def keras_io_published(training_images: np.ndarray, num_classes: int) -> keras.Model:
    """Builds the example with its published sizes, augmentation and head.

    Args:
        training_images: uint8 (count, height, width, channels); images are normalised by their
            mean and variance.
        num_classes: number of logits.
    """
    normalisation = layers.Normalization()
    normalisation.adapt(training_images)
    images = keras.Input(training_images.shape[1:])
    x = normalisation(images)
    x = layers.Resizing(72, 72)(x)  # pixels
    x = layers.RandomFlip("horizontal")(x)
    x = layers.RandomRotation(factor=0.02)(x)  # of a full turn
    x = layers.RandomZoom(height_factor=0.2, width_factor=0.2)(x)
    x = _keras_io_tokens(x, patch_size=6, width=64)
    for _ in range(8):
        x = _keras_io_block(x, heads=4, key_dim=64, mlp_width=128, dropout=0.1)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    x = _keras_io_mlp(x, (2048, 1024), dropout=0.5)
    return keras.Model(images, layers.Dense(num_classes)(x))


class ExtractPatches(layers.Layer):
    """(batch, height, width, channels) -> (batch, patches, size * size * channels)."""

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, images: KerasTensor) -> KerasTensor:
        """Cuts the images into patches."""
        patches = ops.image.extract_patches(images, size=self.size)
        _, rows, columns, pixels = patches.shape
        return ops.reshape(patches, (-1, rows * columns, pixels))


class EmbedPatches(layers.Layer):
    """(batch, patches, pixels) -> (batch, patches, width), with positions from an Embedding."""

    def __init__(self, patches: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patches = patches
        self.projection = layers.Dense(width)
        self.positions = layers.Embedding(patches, width)

    def call(self, patches: KerasTensor) -> KerasTensor:
        """Projects the patches and adds the positions."""
        return self.projection(patches) + self.positions(ops.arange(self.patches)[None])


def _keras_io_tokens(images: KerasTensor, patch_size: int, width: int) -> KerasTensor:
    patches = ExtractPatches(patch_size)(images)
    return EmbedPatches(patches.shape[1], width)(patches)


def _keras_io_block(
    tokens: KerasTensor, heads: int, key_dim: int, mlp_width: int, dropout: float
) -> KerasTensor:
    width = tokens.shape[-1]
    x = layers.LayerNormalization(epsilon=1e-6)(tokens)
    x = layers.MultiHeadAttention(heads, key_dim, dropout=dropout)(x, x)
    tokens = layers.Add()([x, tokens])
    x = layers.LayerNormalization(epsilon=1e-6)(tokens)
    return layers.Add()([_keras_io_mlp(x, (mlp_width, width), dropout), tokens])


def _keras_io_mlp(x: KerasTensor, widths: tuple[int, ...], dropout: float) -> KerasTensor:
    for width in widths:
        x = layers.Dense(width, activation="gelu")(x)  # after the last layer as well
        x = layers.Dropout(dropout)(x)
    return x
