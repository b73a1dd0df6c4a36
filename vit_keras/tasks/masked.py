"""Images with hidden patches -> the hidden pixels: masked pre-training.

Two models: MAE (arXiv:2111.06377), whose encoder sees only the visible patches, and masked image
modelling as in SimMIM (arXiv:2111.09886), whose encoder sees a learned token in place of each
hidden patch. `vit_keras.from_weights` takes the encoder of either for fine-tuning.
"""

import dataclasses
from typing import Any, ClassVar

import keras
from keras import ops

from vit_keras.backbone import embed, image_input, norm, transform
from vit_keras.config import BlockConfig, ViTConfig
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.layers.embedding import Patches
from vit_keras.layers.masking import FillIn, KeepVisible, Unpatch, WithoutPrefix
from vit_keras.model import ViT, check_fits, default_preprocessing
from vit_keras.tasks.losses import PerExampleLoss, mae_loss, mim_loss
from vit_keras.utils.errors import InputError
from vit_keras.utils.types import Tensor
from vit_keras.variants import resolve_config

_register = keras.saving.register_keras_serializable(package="vit_keras")


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The decoder of a masked autoencoder (arXiv:2111.06377, section 3).

    Attributes:
        width: D of the decoder, the length of its tokens; divisible by 4.
        depth: L, the number of its blocks.
        heads: attention heads of its blocks.
        mlp_width: hidden units of its blocks' MLP.
        mask_ratio: fraction of the patches that are hidden.
        normalised: whether the target is each patch minus its mean, divided by its deviation.

    Raises:
        InputError: for a mask_ratio outside (0, 1) or a width that is not divisible by 4.
    """

    width: int = 512
    depth: int = 8
    heads: int = 16
    mlp_width: int = 2048
    mask_ratio: float = 0.75
    normalised: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise InputError(
                f"mask_ratio must be a fraction in (0, 1). Got mask_ratio={self.mask_ratio!r}."
            )
        if self.width % 4:
            raise InputError(f"a decoder's width must be divisible by 4. Got {self.width!r}.")

    def vit_config(self, encoder: ViTConfig) -> ViTConfig:
        """Describes the decoder's blocks as those of a ViT.

        Args:
            encoder: ViTConfig of the encoder.

        Returns:
            ViTConfig with plain blocks: of the encoder's options only norm_epsilon, gelu and
            qkv_bias.
        """
        block = BlockConfig(
            heads=self.heads,
            mlp_width=self.mlp_width,
            norm_epsilon=encoder.block.norm_epsilon,
            gelu=encoder.block.gelu,
            qkv_bias=encoder.block.qkv_bias,
        )
        return ViTConfig(width=self.width, depth=self.depth, block=block)


@_register
class MaskedAutoencoder(ViT):
    """MAE: a ViT on the visible patches and a small one that predicts the hidden patches.

    Made by `build_mae`. It computes its own loss: after `compile(optimizer)` it fits batches of
    {"images", "noise"}.

    Attributes:
        decoder: DecoderConfig; the other attributes are those of `ViT`.
    """

    task: ClassVar[str] = "mae"

    def __init__(self, *args: Any, decoder: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decoder = DecoderConfig(**decoder)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decoder": dataclasses.asdict(self.decoder)}

    def compute_loss(
        self,
        x: Any = None,
        y: Tensor = None,
        y_pred: Any = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Computes `mae_loss` of a batch; y, sample_weight and training are unused."""
        patches = Patches(self.config.patch_size, dtype="float32")(x["images"])
        normalised = self.decoder.normalised
        return _reduce(mae_loss(patches, y_pred["prediction"], y_pred["mask"], normalised))


@_register
class MaskedImageModel(ViT):
    """A ViT that predicts hidden patches with one linear layer.

    Made by `build_mim`. It computes its own loss: after `compile(optimizer)` it fits batches of
    {"images", "masked"}. Its attributes are those of `ViT`.
    """

    task: ClassVar[str] = "mim"

    def compute_loss(
        self,
        x: Any = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Computes `mim_loss` of a batch; y, sample_weight and training are unused."""
        patches = Patches(self.config.patch_size, dtype="float32")
        return _reduce(mim_loss(patches(x["images"]), patches(y_pred), x["masked"]))


def build_mae(
    variant: str | ViTConfig = "vit_b16",
    *,
    decoder: DecoderConfig | None = None,
    preprocessing: Preprocessing | None = None,
    name: str | None = None,
    **overrides: Any,
) -> MaskedAutoencoder:
    """Builds a masked autoencoder as a functional model.

    Args:
        variant: as in `vit_keras.build_vit`. Tokens before the patches, if any, are always
            visible, and pass the decoder as well.
        decoder: DecoderConfig; the paper's by default.
        preprocessing: as in `build_vit`.
        name: of the model; "mae" by default.
        **overrides: as in `build_vit`.

    Returns:
        MaskedAutoencoder. Inputs `images`: float32 (batch, height, width, channels), normalised;
        `noise`: float32 (batch, patches), any numbers; the patches with the smallest ones stay
        visible. Outputs `prediction`: (batch, patches, patch_size * patch_size * channels), pixels
        row by row; `mask`: (batch, patches), 1 for the hidden patches.

    Raises:
        InputError: as `build_vit`, and for stems that show a patch to its neighbours.
    """
    config, preprocessing = _masked_config(variant, preprocessing, overrides)
    decoder = decoder or DecoderConfig()
    images = image_input(config)
    noise = keras.Input((config.grid[0] * config.grid[1],), name="noise")
    latent, mask, restore = _encode(config, decoder, images, noise)
    return MaskedAutoencoder(
        {"images": images, "noise": noise},
        {"prediction": _decode(config, decoder, latent, restore), "mask": mask},
        name=name or "mae",
        config=config.to_fields(),
        preprocessing=dataclasses.asdict(preprocessing),
        decoder=dataclasses.asdict(decoder),
    )


def _encode(
    config: ViTConfig, decoder: DecoderConfig, images: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Encodes the visible patches; returns their tokens, the mask, and the order of all patches."""
    tokens = embed(config, images)
    keep = visible_patches(config.grid[0] * config.grid[1], decoder.mask_ratio)
    keep_visible = KeepVisible(keep, config.prefix_count, name="keep_visible")
    visible, mask, restore = keep_visible([tokens, noise])
    return norm(config, "norm")(transform(config, visible)[0]), mask, restore


def _decode(config: ViTConfig, decoder: DecoderConfig, latent: Tensor, restore: Tensor) -> Tensor:
    """Encoded visible tokens, and the order of all -> pixels (batch, patches, pixels)."""
    x = keras.layers.Dense(decoder.width, name="decoder_embed")(latent)
    x = FillIn(config.grid, config.prefix_count, name="fill_in")([x, restore])
    x, _ = transform(decoder.vit_config(config), x, prefix="decoder_block")
    x = norm(config, "decoder_norm")(x)
    pixels = config.patch_size**2 * config.channels
    x = keras.layers.Dense(pixels, name="decoder_prediction", dtype="float32")(x)
    return WithoutPrefix(config.prefix_count, name="prediction", dtype="float32")(x)


def build_mim(
    variant: str | ViTConfig = "vit_b16",
    *,
    preprocessing: Preprocessing | None = None,
    name: str | None = None,
    **overrides: Any,
) -> MaskedImageModel:
    """Builds a ViT for masked image modelling as a functional model.

    Args:
        variant: as in `vit_keras.build_vit`.
        preprocessing: as in `build_vit`.
        name: of the model; "mim" by default.
        **overrides: as in `build_vit`.

    Returns:
        MaskedImageModel. Inputs `images`: float32 (batch, height, width, channels), normalised;
        `masked`: (batch, patches), 1 for the patches to hide. Output: images of the input's shape.

    Raises:
        InputError: as `build_mae`.
    """
    config, preprocessing = _masked_config(variant, preprocessing, overrides)
    rows, columns = config.grid
    images = image_input(config)
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


def visible_patches(patches: int, mask_ratio: float) -> int:
    """Counts the patches that stay visible: rounded down as in the authors' code, at least 1.

    Args:
        patches: number of patches.
        mask_ratio: fraction of the patches that are hidden.

    Returns:
        Number of patches.
    """
    return max(1, int(patches * (1 - mask_ratio)))


def _reduce(loss: Tensor) -> Tensor:
    """Loss of a batch -> the part that this replica contributes."""
    loss = ops.reshape(loss, (1,))
    return PerExampleLoss()(loss, loss)


def _masked_config(
    variant: str | ViTConfig, preprocessing: Preprocessing | None, overrides: dict[str, Any]
) -> tuple[ViTConfig, Preprocessing]:
    """Returns the config and preprocessing of an encoder whose patches can be hidden."""
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
