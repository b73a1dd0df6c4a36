"""Images, some of whose patches are hidden -> the hidden pixels: masked pre-training.

Two models: MAE (arXiv:2111.06377), whose encoder sees the visible patches alone, and masked image
modelling in the manner of SimMIM (arXiv:2111.09886), whose encoder sees a learned token in place of
the hidden ones. `vit_keras.from_weights` takes the encoder of either for fine-tuning.
"""

import dataclasses

import keras
from keras import ops

from vit_keras.config import ViTConfig
from vit_keras.errors import InputError
from vit_keras.model import ViT, check_fits, default_preprocessing, embed, norm, transform
from vit_keras.variants import resolve_config

_register = keras.saving.register_keras_serializable(package="vit_keras")


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The decoder of a masked autoencoder (arXiv:2111.06377, section 3).

    Attributes:
        width, depth, heads, mlp_width: as in ViTConfig.
        mask_ratio: fraction of the patches that are hidden.
    """

    width: int = 512
    depth: int = 8
    heads: int = 16
    mlp_width: int = 2048
    mask_ratio: float = 0.75

    def __post_init__(self):
        if not 0 < self.mask_ratio < 1:
            raise InputError(
                f"mask_ratio must be a fraction in (0, 1). Got mask_ratio={self.mask_ratio!r}."
            )

    def blocks(self, encoder: ViTConfig) -> ViTConfig:
        """Its blocks as a ViTConfig: plain ones, with the encoder's epsilon and GELU"""
        return ViTConfig(
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_width=self.mlp_width,
            norm_epsilon=encoder.norm_epsilon,
            gelu=encoder.gelu,
            qkv_bias=encoder.qkv_bias,
        )


@_register
class MaskedAutoencoder(ViT):
    """MAE: a ViT on the visible patches, and a small one that fills in the hidden; `build_mae`.

    Attributes:
        decoder: DecoderConfig; the others are those of `ViT`.
    """

    def __init__(self, *args, decoder, **kwargs):
        super().__init__(*args, **kwargs)
        self.decoder = DecoderConfig(**decoder)

    def get_config(self):
        return {**super().get_config(), "decoder": dataclasses.asdict(self.decoder)}


@_register
class MaskedImageModel(ViT):
    """A ViT that fills in hidden patches by one linear layer; made by `build_mim`."""


def build_mae(variant="vit_b16", *, decoder=None, preprocessing=None, name=None, **overrides):
    """Builds a masked autoencoder as a functional model.

    Inputs `images`: float32 (batch, height, width, channels), normalised; `noise`: float32
    (batch, patches), any numbers; the patches with the smallest stay visible. Outputs
    `prediction`: (batch, patches, patch_size * patch_size * channels), pixels row by row, and
    `mask`: (batch, patches), 1 for the hidden patches.

    Args:
        variant, preprocessing, name, **overrides: as in `vit_keras.build_vit`. The encoder has a
            [CLS] token.
        decoder: DecoderConfig; the paper's by default.

    Raises:
        InputError: as `build_vit`.
    """
    config = resolve_config(variant, **{**overrides, "num_classes": 0})
    decoder = decoder or DecoderConfig()
    preprocessing = preprocessing or default_preprocessing(config)
    check_fits(config, preprocessing)
    if list(config.prefix_tokens) != ["cls"]:
        raise InputError(
            f"a masked autoencoder has a [CLS] token and no other. "
            f"Got {', '.join(config.prefix_tokens) or 'none'}."
        )
    patches = config.grid[0] * config.grid[1]
    images = keras.Input((*config.image_size, config.channels), name="images")
    noise = keras.Input((patches,), name="noise")
    tokens = embed(config, images)
    keep = int(patches * (1 - decoder.mask_ratio))
    visible, mask, restore = KeepVisible(keep, name="keep_visible")([tokens, noise])
    latent = norm(config, "norm")(transform(config, visible))
    x = keras.layers.Dense(decoder.width, name="decoder_embed")(latent)
    x = FillIn(patches, name="fill_in")([x, restore])
    x = transform(decoder.blocks(config), x, prefix="decoder_block")
    x = norm(config, "decoder_norm")(x)
    pixels = config.patch_size**2 * config.channels
    x = keras.layers.Dense(pixels, name="decoder_prediction", dtype="float32")(x)
    outputs = {"prediction": WithoutPrefix(1, name="prediction", dtype="float32")(x), "mask": mask}
    return MaskedAutoencoder(
        {"images": images, "noise": noise},
        outputs,
        name=name or "mae",
        config=dataclasses.asdict(config),
        preprocessing=dataclasses.asdict(preprocessing),
        decoder=dataclasses.asdict(decoder),
    )


def build_mim(variant="vit_b16", *, preprocessing=None, name=None, **overrides):
    """Builds a ViT for masked image modelling as a functional model.

    Inputs `images`: float32 (batch, height, width, channels), normalised; `masked`: (batch,
    patches), 1 for the patches to hide. Output `reconstruction`: images of the input's shape.

    Args:
        variant, preprocessing, name, **overrides: as in `vit_keras.build_vit`.

    Raises:
        InputError: as `build_vit`.
    """
    config = resolve_config(variant, **{**overrides, "num_classes": 0})
    preprocessing = preprocessing or default_preprocessing(config)
    check_fits(config, preprocessing)
    rows, columns = config.grid
    images = keras.Input((*config.image_size, config.channels), name="images")
    masked = keras.Input((rows * columns,), name="masked")
    tokens = norm(config, "norm")(transform(config, embed(config, images, masked)))
    x = WithoutPrefix(sum(config.prefix_tokens.values()), name="patch_tokens")(tokens)
    pixels = config.patch_size**2 * config.channels
    x = keras.layers.Dense(pixels, name="reconstruction", dtype="float32")(x)
    return MaskedImageModel(
        {"images": images, "masked": masked},
        Unpatch(config.grid, config.patch_size, name="images_again", dtype="float32")(x),
        name=name or "mim",
        config=dataclasses.asdict(config),
        preprocessing=dataclasses.asdict(preprocessing),
    )


def mae_loss(patches, prediction, mask, normalised=True):
    """Mean squared error on the hidden patches (arXiv:2111.06377, section 3).

    Args:
        patches: (batch, patches, pixels), the image's pixels as `Patches` cuts them.
        prediction: of the same shape.
        mask: (batch, patches), 1 for the hidden patches.
        normalised: whether the target is each patch less its mean, over its deviation (unbiased
            variance, 1e-6 added, as in the authors' models_mae.py).
    """
    if normalised:
        pixels = patches.shape[-1]
        centred = patches - ops.mean(patches, axis=-1, keepdims=True)
        variance = ops.sum(ops.square(centred), axis=-1, keepdims=True) / (pixels - 1)
        patches = centred / ops.sqrt(variance + 1e-6)
    error = ops.mean(ops.square(prediction - patches), axis=-1)  # (batch, patches)
    return ops.sum(error * mask) / ops.sum(mask)


@_register
class KeepVisible(keras.layers.Layer):
    """Drops all patch tokens but those with the smallest noise; the [CLS] token stays.

    (batch, 1 + patches, width), (batch, patches) -> tokens (batch, 1 + keep, width), mask (batch,
    patches), 1 for the dropped, and the order that undoes the shuffling, (batch, patches).
    """

    def __init__(self, keep, **kwargs):
        # In half precision much of the noise would be equal.
        super().__init__(**{**kwargs, "autocast": False})
        self.keep = keep

    def call(self, inputs):
        tokens, noise = inputs
        shuffle = ops.argsort(noise, axis=1)
        restore = ops.argsort(shuffle, axis=1)
        kept = ops.expand_dims(shuffle[:, : self.keep], -1)
        visible = ops.take_along_axis(tokens[:, 1:], kept, axis=1)
        mask = ops.cast(restore >= self.keep, "float32")
        return ops.concatenate([tokens[:, :1], visible], axis=1), mask, restore


@_register
class FillIn(keras.layers.Layer):
    """Puts a learned token where patches were dropped, in the image's order, and adds positions.

    (batch, 1 + keep, width), (batch, patches) -> (batch, 1 + patches, width)
    """

    def __init__(self, patches, **kwargs):
        super().__init__(**kwargs)
        self.patches = patches

    def build(self, shapes):
        (_, visible, width), _ = shapes
        self.hidden = self.patches + 1 - visible
        normal = keras.initializers.RandomNormal(stddev=0.02)
        self.mask = self.add_weight(name="mask", shape=(1, 1, width), initializer=normal)
        self.position_table = self.add_weight(
            name="positions", shape=(1, self.patches + 1, width), initializer=normal
        )

    def call(self, inputs):
        tokens, restore = inputs
        hidden = ops.tile(self.mask, (ops.shape(tokens)[0], self.hidden, 1))
        x = ops.concatenate([tokens[:, 1:], hidden], axis=1)
        x = ops.take_along_axis(x, ops.expand_dims(restore, -1), axis=1)
        return ops.concatenate([tokens[:, :1], x], axis=1) + self.position_table


@_register
class WithoutPrefix(keras.layers.Layer):
    """(batch, prefix + patches, width) -> (batch, patches, width)"""

    def __init__(self, prefix, **kwargs):
        super().__init__(**kwargs)
        self.prefix = prefix

    def call(self, tokens):
        return tokens[:, self.prefix :]


@_register
class Unpatch(keras.layers.Layer):
    """The inverse of Patches: (batch, patches, size * size * channels) -> images

    Args:
        grid: (rows, columns) of patches.
        size: pixels, the side of a patch.
    """

    def __init__(self, grid, size, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.size = size

    def call(self, patches):
        (rows, columns), size = self.grid, self.size
        channels = patches.shape[-1] // size**2
        x = ops.reshape(patches, (-1, columns, size, size * channels))
        x = ops.transpose(x, (0, 2, 1, 3))  # (batch * rows, size, columns, size * channels)
        return ops.reshape(x, (-1, rows * size, columns * size, channels))
