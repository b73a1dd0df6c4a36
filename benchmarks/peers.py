"""ViTConfig -> keras.Model, images to logits, as this project and as each of its peers builds it.

The models made from one ViTConfig have the same tokens, width, depth, heads and MLP, and random
weights; what is left is how each of them is written. KerasHub's and the keras.io example's have
learned positions and exact GELU only.
"""

import keras
import keras_hub
from keras import layers, ops

from training.recipes.fashion_mini import RECIPE
from vit_keras.model import build_vit
from vit_keras.variants import resolve_config


def default_config(**overrides):
    """The ViTConfig that `python -m training fit fashion_mini` trains, for its 10 classes."""
    overrides = {"num_classes": 10, **RECIPE.model, **overrides}
    return resolve_config(
        RECIPE.variant, image_size=RECIPE.image_size, channels=RECIPE.channels, **overrides
    )


def keras_hub_vit(config):
    """KerasHub's ViTBackbone and ViTImageClassifier, without a download or a preprocessor."""
    cls_token = config.pooling == "cls"
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(*config.image_size, config.channels),
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


def keras_io_vit(config):
    """The model of keras.io's example "Image classification with Vision Transformer", resized.

    Its blocks at the config's sizes, with width / heads numbers a head where the example has
    width, and mean pooling before one linear layer where it has a wide MLP on all tokens: the
    example has no [CLS] token.
    """
    images = keras.Input((*config.image_size, config.channels))
    x = _keras_io_tokens(images, config.patch_size, config.width)
    for _ in range(config.depth):
        x = _keras_io_block(
            x,
            config.block.heads,
            config.width // config.block.heads,
            config.block.mlp_width,
            config.block.dropout,
        )
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(images, layers.Dense(config.num_classes)(x))


OURS = "vit-keras-edge"
BUILDERS = {
    OURS: build_vit,
    "KerasHub": keras_hub_vit,
    "keras.io example": keras_io_vit,
}


def keras_io_published(training_images, num_classes):
    """That example with its published sizes, augmentation and head; dropout 0.1, 0.5 at the head.

    Args:
        training_images: uint8 (count, height, width, channels); their mean and variance normalise.
        num_classes: logits.
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
    """(batch, height, width, channels) -> (batch, patches, size * size * channels)"""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, images):
        patches = ops.image.extract_patches(images, size=self.size)
        _, rows, columns, pixels = patches.shape
        return ops.reshape(patches, (-1, rows * columns, pixels))


class EmbedPatches(layers.Layer):
    """(batch, patches, pixels) -> (batch, patches, width), with positions from an Embedding"""

    def __init__(self, patches, width, **kwargs):
        super().__init__(**kwargs)
        self.patches = patches
        self.projection = layers.Dense(width)
        self.positions = layers.Embedding(patches, width)

    def call(self, patches):
        return self.projection(patches) + self.positions(ops.arange(self.patches)[None])


def _keras_io_tokens(images, patch_size, width):
    patches = ExtractPatches(patch_size)(images)
    return EmbedPatches(patches.shape[1], width)(patches)


def _keras_io_block(tokens, heads, key_dim, mlp_width, dropout):
    width = tokens.shape[-1]
    x = layers.LayerNormalization(epsilon=1e-6)(tokens)
    x = layers.MultiHeadAttention(heads, key_dim, dropout=dropout)(x, x)
    tokens = layers.Add()([x, tokens])
    x = layers.LayerNormalization(epsilon=1e-6)(tokens)
    return layers.Add()([_keras_io_mlp(x, (mlp_width, width), dropout), tokens])


def _keras_io_mlp(x, widths, dropout):
    for width in widths:
        x = layers.Dense(width, activation="gelu")(x)  # behind the last one, too
        x = layers.Dropout(dropout)(x)
    return x
