"""Fields -> ViTConfig: every setting that decides what a ViT computes, checked."""

import dataclasses
import math
import typing
from collections.abc import Iterable
from typing import Any

from vit_keras.utils.checks import (
    as_image_size,
    check_choice,
    check_divisible_size,
    check_fraction,
    check_heads,
    check_integer,
    check_sincos_width,
    store_integers,
)
from vit_keras.utils.errors import InputError, did_you_mean
from vit_keras.utils.types import ImageSize

STEMS = ("patches", "shifted_patches", "resnet", "convolutions")
POOLINGS = ("cls", "mean", "map", "sequence")
POSITIONS = ("learned", "sincos2d")
POSITION_RESIZES = ("bicubic_antialias", "bicubic", "linear_antialias", "corners")
GELUS = ("exact", "tanh", "quick")
_BOOLS = (False, True)


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """Options of a transformer block that are the same in every block of a model.

    Attributes:
        heads: attention heads; each has width / heads channels.
        mlp_width: hidden units of the MLP.
        dropout: fraction, after the attention projection, both MLP layers and the positions.
        attention_dropout: fraction of attention weights dropped.
        norm_epsilon: added to the variance in every LayerNorm.
        layer_scale: initial value of a learned factor for each channel of both branches
            (arXiv:2103.17239); 0 for none.
        gelu: "exact" (erf), "tanh", the approximation in Google's models, or "quick",
            x * sigmoid(1.702 x), in OpenAI's CLIP.
        swiglu: the MLP multiplies silu(a) by b, both mlp_width wide (DINOv2's g/14).
        qkv_bias: whether queries, keys and values have a bias.
        qk_norm: whether each head's queries and keys pass a LayerNorm (arXiv:2302.05442).
        locality_attention: a learned temperature for each head, and no attention of a token to
            itself (LSA, arXiv:2112.13492); for small data sets.

    Raises:
        InputError: for a value outside these.
    """

    heads: int = 12
    mlp_width: int = 3072
    dropout: float = 0.0
    attention_dropout: float = 0.0
    norm_epsilon: float = 1e-6
    layer_scale: float = 0.0
    gelu: str = "exact"
    swiglu: bool = False
    qkv_bias: bool = True
    qk_norm: bool = False
    locality_attention: bool = False

    def __post_init__(self) -> None:
        store_integers(self, ("heads", "mlp_width"), minimum=1)
        for field in ("dropout", "attention_dropout"):
            check_fraction(field, getattr(self, field))
        if not isinstance(self.norm_epsilon, float) or not 0 < self.norm_epsilon < 1:
            raise InputError(
                f"norm_epsilon must be a small positive float such as 1e-6. "
                f"Got norm_epsilon={self.norm_epsilon!r}."
            )
        check_choice("gelu", self.gelu, GELUS)
        for field in ("swiglu", "qkv_bias", "qk_norm", "locality_attention"):
            check_choice(field, getattr(self, field), _BOOLS)


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Settings of a Vision Transformer, in the terms of arXiv:2010.11929.

    Functions that take these fields as keyword arguments, such as `build_vit`, also take those of
    its block: build_vit("vit_b16", gelu="tanh").

    Attributes:
        image_size: pixels; an int for square images or (height, width). Stored as (height, width).
        channels: colour channels of the input, 1 for grey, 3 for RGB.
        patch_size: P, pixels, the side of the square that becomes one token.
        width: D, the length of a token.
        depth: L, the number of transformer blocks.
        block: BlockConfig, the options of every block.
        num_classes: logits; 0 for no head: the output is the pooled token.
        stem: how the image becomes patch tokens. "patches": one linear layer on the pixels of a
            patch. "shifted_patches": patches with their diagonal neighbourhood, normalised (SPT,
            arXiv:2112.13492), for small data sets. "resnet": a BiT ResNet before the patches
            (hybrid, section 3.1). "convolutions": convolutions and max-pooling (CCT,
            arXiv:2104.05704, section 3.2), for small data sets.
        stem_width: channels of the stem's first convolution.
        stem_blocks: blocks in each stage of the ResNet: (3, 4, 9) in R50+B/16, () for the root.
        stem_kernel: pixels, side of the kernels of stem "convolutions". Each layer halves the image
            with 3 and quarters it with 7; patch_size decides the number of layers.
        pooling: input of the head. "cls": a learned [CLS] token before the patches. "mean": the
            mean of the patch tokens. "map": attention pooling by a learned probe and an MLP
            (arXiv:2106.04560, section 3.2). "sequence": a learned weighting (CCT, section 3.2).
        cls_token: whether there is a [CLS] token; None: only if the pooling reads it.
        distilled: a second learned token with its own head, trained on a teacher's output; the
            logits are the mean of both heads (DeiT, arXiv:2012.12877, section 4).
        registers: number of extra learned tokens that no head reads (arXiv:2309.16588).
        positions: "learned", or "sincos2d" for the fixed table of arXiv:2205.01580.
        prefix_positions: whether the tokens before the patches have rows in the position table;
            without, they are prepended after the table is added (DeiT III).
        position_resize: how a learned table is resized to another grid; see RESIZES in
            vit_keras/layers/positions.py.
        pre_norm: a LayerNorm before the first block and no bias in the patch projection (CLIP,
            arXiv:2103.00020, section 2.4).
        norm_after_pooling: whether the final LayerNorm follows the pooling (timm's fc_norm).
        head_width: units of a tanh layer before the head, for pre-training (section 3.1); or 0.
        merge_tokens: patch tokens that each block merges into similar ones, at most half of them;
            needs no new training (ToMe, arXiv:2210.09461).
        trim_last_block: whether the last block computes only the [CLS] and distillation tokens:
            less work for the same answer. Needs pooling "cls".
        patch_dropout: fraction of the patches dropped in training (arXiv:2208.07220).
        stochastic_depth: fraction of images that skip the last block's branches; grows linearly
            from 0 at the first block (arXiv:1603.09382).

    Raises:
        InputError: for a value no ViT can be built from; the message names a value that works.
    """

    image_size: ImageSize = 224
    channels: int = 3
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    block: BlockConfig = BlockConfig()
    num_classes: int = 1000
    stem: str = "patches"
    stem_width: int = 64
    stem_blocks: tuple[int, ...] = ()
    stem_kernel: int = 3
    pooling: str = "cls"
    cls_token: bool | None = None
    distilled: bool = False
    registers: int = 0
    positions: str = "learned"
    prefix_positions: bool = True
    position_resize: str = "bicubic_antialias"
    pre_norm: bool = False
    norm_after_pooling: bool = False
    head_width: int = 0
    merge_tokens: int = 0
    trim_last_block: bool = False
    patch_dropout: float = 0.0
    stochastic_depth: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", as_image_size(self.image_size))
        object.__setattr__(self, "stem_blocks", tuple(self.stem_blocks))
        positive = ("channels", "patch_size", "width", "depth", "stem_width", "stem_kernel")
        store_integers(self, positive, minimum=1)
        counts = ("num_classes", "head_width", "registers", "merge_tokens")
        store_integers(self, counts, minimum=0)
        for blocks in self.stem_blocks:
            check_integer("stem_blocks", blocks, minimum=1)
        for field, choices in _CHOICES.items():
            check_choice(field, getattr(self, field), choices)
        for field in _SWITCHES:
            check_choice(field, getattr(self, field), _BOOLS)
        for field in ("patch_dropout", "stochastic_depth"):
            check_fraction(field, getattr(self, field))
        self._check_combinations()

    def _check_combinations(self) -> None:
        check_divisible_size(self.image_size, self.patch_size)
        check_heads(self.block.heads, self.width)
        if self.positions == "sincos2d":
            check_sincos_width(self.width)
        divides = self.patch_size % self.stem_stride == 0
        if not divides or (self.stem == "convolutions" and self.patch_size != self.stem_stride):
            raise InputError(
                f"stem={self.stem!r} shrinks the image {self.stem_stride} times, which must fit "
                f"patch_size. Got patch_size={self.patch_size}; "
                f"try patch_size={self.stem_stride}."
            )
        if self.trim_last_block and self.pooling != "cls":
            raise InputError(
                f"trim_last_block leaves no patches to pool; it takes pooling='cls'. "
                f"Got pooling={self.pooling!r}."
            )
        if self.pooling == "cls" and self.cls_token is False:
            raise InputError("pooling='cls' reads the [CLS] token. Got cls_token=False.")
        if self.distilled and (self.pooling != "cls" or self.norm_after_pooling):
            raise InputError(
                f"a distilled model reads its normed [CLS] and distillation tokens. "
                f"Got pooling={self.pooling!r}, norm_after_pooling={self.norm_after_pooling}."
            )

    @classmethod
    def from_fields(cls, **fields: Any) -> "ViTConfig":
        """Builds a config from its fields and those of its block.

        Args:
            **fields: those of `to_fields`; by default as in the classes.

        Raises:
            InputError: for an unknown field, with the nearest names, or a wrong value.
        """
        return cls().replace(**fields)

    def replace(self, **fields: Any) -> "ViTConfig":
        """Returns a copy with some fields, or fields of its block, replaced.

        Args:
            **fields: as for `from_fields`.

        Raises:
            InputError: as `from_fields`.
        """
        check_fields(fields)
        names = [field.name for field in dataclasses.fields(BlockConfig)]
        block = {name: fields.pop(name) for name in names if name in fields}
        return dataclasses.replace(self, block=dataclasses.replace(self.block, **block), **fields)

    def to_fields(self) -> dict[str, Any]:
        """Returns {field: value} with the fields of the block inline: how a config is saved."""
        fields: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            fields.update(value if name == "block" else {name: value})
        return fields

    @staticmethod
    def field_types() -> dict[str, Any]:
        """Returns {field: type} of what `from_fields` takes."""
        types = typing.get_type_hints(ViTConfig)
        del types["block"]
        return {**types, **typing.get_type_hints(BlockConfig)}

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across, (rows, columns)."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def prefix_tokens(self) -> dict[str, int]:
        """The learned tokens before the patches, in order: {name: count}."""
        cls = self.pooling == "cls" if self.cls_token is None else self.cls_token
        counts = {"cls": int(cls), "dist": int(self.distilled), "registers": self.registers}
        return {name: count for name, count in counts.items() if count}

    @property
    def prefix_count(self) -> int:
        """The number of learned tokens before the patches."""
        return sum(self.prefix_tokens.values())

    @property
    def stem_stride(self) -> int:
        """Pixels of the image for each row or column of the stem's output."""
        if self.stem == "resnet":
            return 4 * 2 ** max(0, len(self.stem_blocks) - 1)  # all stages but the first halve it
        if self.stem == "convolutions":
            return (2 * convolution_stride(self.stem_kernel)) ** self.stem_layers
        return 1

    @property
    def stem_layers(self) -> int:
        """The number of layers with which stem "convolutions" reaches patch_size."""
        layer = 2 * convolution_stride(self.stem_kernel)  # max-pooling doubles the stride
        return max(1, round(math.log(self.patch_size, layer)))


_CHOICES: dict[str, tuple[Any, ...]] = {
    "stem": STEMS,
    "pooling": POOLINGS,
    "cls_token": (None, *_BOOLS),
    "positions": POSITIONS,
    "position_resize": POSITION_RESIZES,
}
_SWITCHES = ("distilled", "prefix_positions", "pre_norm", "norm_after_pooling", "trim_last_block")


def check_fields(names: Iterable[str]) -> None:
    """Checks names of fields of a ViTConfig or its block.

    Raises:
        InputError: for an unknown name, with the nearest ones.
    """
    known = list(ViTConfig.field_types())
    for name in names:
        if name not in known:
            raise InputError(
                f"a ViTConfig has no field {name!r}{did_you_mean(name, known)}. "
                f"Its fields: {', '.join(known)}."
            )


def convolution_stride(kernel: int) -> int:
    """Returns the stride of CCT's convolutions for a kernel side in pixels: 1 for 3, 2 for 7."""
    return max(1, kernel // 2 - 1)
