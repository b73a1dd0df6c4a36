"""Images, some of whose patches are hidden -> the hidden pixels: masked pre-training.

Two models: MAE (arXiv:2111.06377), whose encoder sees the visible patches alone, and masked image
modelling in the manner of SimMIM (arXiv:2111.09886), whose encoder sees a learned token in place of
the hidden ones. `vit_keras.from_weights` takes the encoder of either for fine-tuning.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from vit_keras.config import BlockConfig, ViTConfig
from vit_keras.layers.embedding import Patches
from vit_keras.layers.positions import sincos2d
from vit_keras.model import ViT, check_fits, default_preprocessing, embed, norm, transform
from vit_keras.tasks.losses import AsGiven
from vit_keras.utils.errors import InputError
from vit_keras.variants import resolve_config

_register = keras.saving.register_keras_serializable(package="vit_keras")


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The decoder of a masked autoencoder (arXiv:2111.06377, section 3).

    Attributes:
        width, depth, heads, mlp_width: as in ViTConfig.
        mask_ratio: fraction of the patches that are hidden.
        normalised: whether the target is each patch less its mean, over its deviation.
    """

    width: int = 512
    depth: int = 8
    heads: int = 16
    mlp_width: int = 2048
    mask_ratio: float = 0.75
    normalised: bool = True

    def __post_init__(self):
        if not 0 < self.mask_ratio < 1:
            raise InputError(
                f"mask_ratio must be a fraction in (0, 1). Got mask_ratio={self.mask_ratio!r}."
            )
        if self.width % 4:
            raise InputError(f"a decoder's width must be divisible by 4. Got {self.width!r}.")

    def blocks(self, encoder: ViTConfig) -> ViTConfig:
        """Its blocks as a ViTConfig: plain ones, with the encoder's epsilon and GELU"""
        return ViTConfig(
            width=self.width,
            depth=self.depth,
            block=BlockConfig(
                heads=self.heads,
                mlp_width=self.mlp_width,
                norm_epsilon=encoder.block.norm_epsilon,
                gelu=encoder.block.gelu,
                qkv_bias=encoder.block.qkv_bias,
            ),
        )


@_register
class MaskedAutoencoder(ViT):
    """MAE: a ViT on the visible patches, and a small one that fills in the hidden; `build_mae`.

    It knows its loss: after `compile(optimizer)` it fits batches of {"images", "noise"}.

    Attributes:
        decoder: DecoderConfig; the others are those of `ViT`.
    """

    task = "mae"

    def __init__(self, *args, decoder, **kwargs):
        super().__init__(*args, **kwargs)
        self.decoder = DecoderConfig(**decoder)

    def get_config(self):
        return {**super().get_config(), "decoder": dataclasses.asdict(self.decoder)}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """`mae_loss` of a batch"""
        patches = Patches(self.config.patch_size, dtype="float32")(x["images"])
        answer = y_pred["prediction"], y_pred["mask"]
        return _shared(mae_loss(patches, *answer, self.decoder.normalised))


@_register
class MaskedImageModel(ViT):
    """A ViT that fills in hidden patches by one linear layer; made by `build_mim`.

    It knows its loss: after `compile(optimizer)` it fits batches of {"images", "masked"}.
    """

    task = "mim"

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """`mim_loss` of a batch"""
        patches = Patches(self.config.patch_size, dtype="float32")
        return _shared(mim_loss(patches(x["images"]), patches(y_pred), x["masked"]))


def build_mae(variant="vit_b16", *, decoder=None, preprocessing=None, name=None, **overrides):
    """Builds a masked autoencoder as a functional model.

    Inputs `images`: float32 (batch, height, width, channels), normalised; `noise`: float32
    (batch, patches), any numbers; the patches with the smallest stay visible. Outputs
    `prediction`: (batch, patches, patch_size * patch_size * channels), pixels row by row, and
    `mask`: (batch, patches), 1 for the hidden patches.

    Args:
        variant, preprocessing, name, **overrides: as in `vit_keras.build_vit`. Tokens before the
            patches, if any, are always visible, and go through the decoder as well.
        decoder: DecoderConfig; the paper's by default.

    Raises:
        InputError: as `build_vit`, and for stems through which patches see each other.
    """
    config, preprocessing = _to_be_masked(variant, preprocessing, overrides)
    decoder = decoder or DecoderConfig()
    patches = config.grid[0] * config.grid[1]
    prefix = config.prefix_count
    images = keras.Input((*config.image_size, config.channels), name="images")
    noise = keras.Input((patches,), name="noise")
    tokens = embed(config, images)
    keep = visible_patches(patches, decoder.mask_ratio)
    visible, mask, restore = KeepVisible(keep, prefix, name="keep_visible")([tokens, noise])
    latent = norm(config, "norm")(transform(config, visible)[0])
    x = keras.layers.Dense(decoder.width, name="decoder_embed")(latent)
    x = FillIn(config.grid, prefix, name="fill_in")([x, restore])
    x, _ = transform(decoder.blocks(config), x, prefix="decoder_block")
    x = norm(config, "decoder_norm")(x)
    pixels = config.patch_size**2 * config.channels
    x = keras.layers.Dense(pixels, name="decoder_prediction", dtype="float32")(x)
    prediction = WithoutPrefix(prefix, name="prediction", dtype="float32")(x)
    return MaskedAutoencoder(
        {"images": images, "noise": noise},
        {"prediction": prediction, "mask": mask},
        name=name or "mae",
        config=config.to_fields(),
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
        InputError: as `build_mae`.
    """
    config, preprocessing = _to_be_masked(variant, preprocessing, overrides)
    rows, columns = config.grid
    images = keras.Input((*config.image_size, config.channels), name="images")
    masked = keras.Input((rows * columns,), name="masked")
    tokens = norm(config, "norm")(transform(config, embed(config, images, masked))[0])
    x = WithoutPrefix(config.prefix_count, name="patch_tokens")(tokens)
    pixels = config.patch_size**2 * config.channels
    x = keras.layers.Dense(pixels, name="reconstruction", dtype="float32")(x)
    return MaskedImageModel(
        {"images": images, "masked": masked},
        Unpatch(config.grid, config.patch_size, name="images_again", dtype="float32")(x),
        name=name or "mim",
        config=config.to_fields(),
        preprocessing=dataclasses.asdict(preprocessing),
    )


def _shared(loss):
    """A batch's loss, of which each replica computes its part"""
    loss = ops.reshape(loss, (1,))
    return AsGiven()(loss, loss)


def visible_patches(patches, mask_ratio):
    """How many of so many patches stay visible: rounded down as in the authors' code, 1 at least"""
    return max(1, int(patches * (1 - mask_ratio)))


def _to_be_masked(variant, preprocessing, overrides):
    """ViTConfig and Preprocessing of an encoder whose patches can be hidden"""
    config = resolve_config(variant, **{**overrides, "num_classes": 0})
    preprocessing = preprocessing or default_preprocessing(config)
    check_fits(config, preprocessing)
    if config.stem != "patches":
        raise InputError(
            f'masked pre-training needs stem="patches": other stems show a patch to its '
            f"neighbours. Got stem={config.stem!r}."
        )
    if config.merge_tokens or config.trim_last_block:
        raise InputError(
            f"masked pre-training needs every token in its place. "
            f"Got merge_tokens={config.merge_tokens}, trim_last_block={config.trim_last_block}; "
            f"set them for the encoder afterwards."
        )
    if config.grid == (1, 1):
        raise InputError(f"an image of one patch has nothing to hide. Got {config.image_size}.")
    return config, preprocessing


def mae_loss(patches, prediction, mask, normalised=True):
    """Mean squared error on the hidden patches (arXiv:2111.06377, section 3).

    Args:
        patches: (batch, patches, pixels), the image's pixels as `Patches` cuts them.
        prediction: of the same shape.
        mask: (batch, patches), 1 for the hidden patches.
        normalised: whether the target is each patch less its mean, over its deviation.
    """
    if normalised:
        mean, deviation = patch_moments(patches)
        patches = (patches - mean) / deviation
    error = ops.mean(ops.square(prediction - patches), axis=-1)  # (batch, patches)
    return ops.sum(error * mask) / ops.sum(mask)


def patch_moments(patches):
    """Each patch's mean, and its deviation as in the authors' models_mae.py of MAE.

    The variance is the unbiased one, with 1e-6 added. (batch, patches, pixels) -> two times (batch,
    patches, 1).
    """
    mean = ops.mean(patches, axis=-1, keepdims=True)
    squares = ops.sum(ops.square(patches - mean), axis=-1, keepdims=True)
    return mean, ops.sqrt(squares / (patches.shape[-1] - 1) + 1e-6)


def mim_loss(patches, reconstruction, masked):
    """Mean absolute error on the hidden patches (arXiv:2111.09886, section 3.4).

    Args:
        patches: (batch, patches, pixels), the image's pixels as `Patches` cuts them.
        reconstruction: of the same shape.
        masked: (batch, patches), 1 for the hidden patches.
    """
    error = ops.mean(ops.abs(reconstruction - patches), axis=-1)  # (batch, patches)
    return ops.sum(error * masked) / ops.sum(masked)


@_register
class KeepVisible(keras.layers.Layer):
    """Drops all patch tokens but those with the smallest noise.

    (batch, prefix + patches, width), (batch, patches) -> tokens (batch, prefix + keep, width), mask
    (batch, patches), 1 for the dropped, and the order that undoes the shuffling, (batch, patches).

    Args:
        keep: how many patch tokens stay.
        prefix: how many tokens stand before the patches; they stay.
    """

    def __init__(self, keep, prefix=1, **kwargs):
        # In half precision much of the noise would be equal.
        super().__init__(**{**kwargs, "autocast": False})
        self.keep = keep
        self.prefix = prefix

    def call(self, inputs):
        tokens, noise = inputs
        shuffle = ops.argsort(noise, axis=1)
        restore = ops.argsort(shuffle, axis=1)
        kept = ops.expand_dims(shuffle[:, : self.keep], -1)
        visible = ops.take_along_axis(tokens[:, self.prefix :], kept, axis=1)
        mask = ops.cast(restore >= self.keep, "float32")
        return ops.concatenate([tokens[:, : self.prefix], visible], axis=1), mask, restore


@_register
class FillIn(keras.layers.Layer):
    """Puts a learned token where patches were dropped, in the image's order, and adds positions.

    (batch, prefix + keep, width), (batch, patches) -> (batch, prefix + patches, width). Positions
    are fixed, sine-cosine for the patches and zero for the prefix (arXiv:2111.06377, section 3),
    and still a weight: checkpoints bring their own.

    Args:
        grid: (rows, columns) of patches.
        prefix: how many tokens stand before the patches.
    """

    def __init__(self, grid, prefix=1, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.prefix = prefix

    def build(self, shapes):
        (_, visible, width), _ = shapes
        rows, columns = self.grid
        self.hidden = self.prefix + rows * columns - visible
        normal = keras.initializers.RandomNormal(stddev=0.02)
        self.mask = self.add_weight(name="mask", shape=(1, 1, width), initializer=normal)
        table = np.pad(sincos2d(rows, columns, width), ((self.prefix, 0), (0, 0)))
        self.position_table = self.add_weight(
            name="positions",
            shape=(1, *table.shape),
            initializer=lambda shape, dtype: ops.convert_to_tensor(table[np.newaxis], dtype),
            trainable=False,
        )

    def call(self, inputs):
        tokens, restore = inputs
        hidden = ops.tile(self.mask, (ops.shape(tokens)[0], self.hidden, 1))
        x = ops.concatenate([tokens[:, self.prefix :], hidden], axis=1)
        x = ops.take_along_axis(x, ops.expand_dims(restore, -1), axis=1)
        return ops.concatenate([tokens[:, : self.prefix], x], axis=1) + self.position_table


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
