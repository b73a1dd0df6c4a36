"""Fields -> ViTConfig: every number that decides what a ViT computes, checked."""

import dataclasses
import math
import operator

from vit_keras.utils.errors import InputError

STEMS = ("patches", "shifted_patches", "resnet", "convolutions")
POOLINGS = ("cls", "mean", "map", "sequence")
POSITIONS = ("learned", "sincos2d")
POSITION_RESIZES = ("bicubic_antialias", "bicubic", "linear_antialias", "corners")
GELUS = ("exact", "tanh", "quick")


def as_image_size(image_size) -> tuple[int, int]:
    """An int or (height, width), pixels -> (height, width)"""
    size = image_size if isinstance(image_size, list | tuple) else (image_size, image_size)
    if len(size) != 2:
        raise InputError(
            f"image_size must be an int or (height, width), in pixels. Got {image_size!r}."
        )
    height, width = (check_integer("image_size", side, minimum=1) for side in size)
    return height, width


def check_integer(field, value, minimum) -> int:
    """The value as a plain int; NumPy's whole numbers are welcome, bools are not."""
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if isinstance(value, bool) or number < minimum:
        raise InputError(
            f"{field} must be a whole number of at least {minimum}. Got {field}={value!r}."
        )
    return number


def check_choice(field, value, choices):
    if value not in choices:
        raise InputError(
            f"{field} must be one of {', '.join(map(str, choices))}. Got {field}={value!r}."
        )


def _nearest_divisor(number, wanted):
    divisors = (n for n in range(1, number + 1) if number % n == 0)
    return min(divisors, key=lambda divisor: abs(divisor - wanted))


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """The shape of a Vision Transformer, in the terms of arXiv:2010.11929.

    Attributes:
        image_size: pixels; an int for square images or (height, width). Kept as (height, width).
        channels: colour channels of the input, 1 for grey, 3 for RGB.
        patch_size: pixels of the image, the side P of the square that becomes one token.
        width: D, the length of a token.
        depth: L, the number of transformer blocks.
        heads: attention heads; each works on width / heads numbers.
        mlp_width: hidden units of each block's MLP.
        num_classes: logits; 0 builds the model without a head, its output is the pooled token.
        stem: what turns the image into patch tokens. "patches", one linear layer on the pixels of
            a patch; "shifted_patches", which also see half a patch further on their diagonals and
            are normalised (SPT, arXiv:2112.13492), for few images; "resnet", a BiT ResNet before
            the patches (hybrid, section 3.1); "convolutions" with max-pooling (CCT,
            arXiv:2104.05704, section 3.2), for few images.
        stem_width: channels of the stem's first convolution.
        stem_blocks: bottleneck blocks in each stage of the ResNet, (3, 4, 9) for R50+B/16; () has
            its root alone.
        stem_kernel: pixels, side of the kernels of stem "convolutions". Kernel 3 halves the image
            at each layer and 7 quarters it; patch_size says how many layers that takes.
        pooling: what the head reads. "cls", a learned [CLS] token before the patches; "mean" of
            the patch tokens; "map", attention pooling by a learned probe and an MLP
            (arXiv:2106.04560, section 3.2); "sequence", a learned weighting (CCT, section 3.2).
        cls_token: whether there is a [CLS] token; None: where the pooling reads it.
        distilled: a second learned token with a head of its own, taught by another model; the
            logits are the mean of both heads (DeiT, arXiv:2012.12877, section 4).
        registers: further learned tokens that nothing reads (arXiv:2309.16588).
        positions: "learned", or "sincos2d" for the fixed table of arXiv:2205.01580.
        prefix_positions: whether the tokens before the patches have rows in the table of
            positions; without, it is added before they are put in front (DeiT III).
        position_resize: how a learned table is resized when the model is rebuilt for another
            grid, see `vit_keras.layers.positions.resize_positions`.
        pre_norm: a LayerNorm before the first block and no bias in the patch projection (CLIP,
            arXiv:2103.00020, section 2.4).
        norm_after_pooling: whether the last LayerNorm stands behind the pooling (MAE's fine-tuned
            models; `fc_norm` in timm) and not before it.
        norm_epsilon: added to the variance in every LayerNorm.
        layer_scale: initial value of a learned factor for each channel of both branches of a
            block (arXiv:2103.17239); 0 for none.
        qkv_bias: whether queries, keys and values have a bias.
        qk_norm: LayerNorm of each head's queries and keys (arXiv:2302.05442).
        locality_attention: a learned temperature for each head, and no attention of a token to
            itself (LSA, arXiv:2112.13492); for few images.
        gelu: "exact" (erf), "tanh", the approximation Google's models were trained with, or
            "quick", x * sigmoid(1.702 x), of OpenAI's CLIP.
        swiglu: the MLP multiplies silu(a) by b, both mlp_width wide (DINOv2's g/14).
        head_width: 0 for one linear layer; otherwise the tanh layer of that many units which the
            paper puts before it for pre-training (section 3.1).
        merge_tokens: patch tokens that each block merges into others alike, at most half of those
            there are: less work for nearly the same answer, also with weights that were trained
            without (ToMe, arXiv:2210.09461).
        trim_last_block: whether the last block computes those tokens alone that the heads read,
            [CLS] and a distillation token: less work for the same answer. Pooling "cls" alone.
        dropout: fraction, after the positions, the attention projection and both MLP layers.
        attention_dropout: fraction of attention weights dropped.
        patch_dropout: fraction of the patches that no block sees in training (arXiv:2208.07220).
        stochastic_depth: fraction of images that skip the last block's branches; grows linearly
            from 0 at the first block (arXiv:1603.09382).

    Raises:
        InputError: for a value no ViT can be built from; the message names a value that works.
    """

    image_size: int | tuple[int, int] = 224
    channels: int = 3
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
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
    norm_epsilon: float = 1e-6
    layer_scale: float = 0.0
    qkv_bias: bool = True
    qk_norm: bool = False
    locality_attention: bool = False
    gelu: str = "exact"
    swiglu: bool = False
    head_width: int = 0
    merge_tokens: int = 0
    trim_last_block: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    patch_dropout: float = 0.0
    stochastic_depth: float = 0.0

    def __post_init__(self):
        self._set("image_size", as_image_size(self.image_size))
        self._set("stem_blocks", tuple(self.stem_blocks))
        for field in _POSITIVE:
            self._set(field, check_integer(field, getattr(self, field), minimum=1))
        for field in ("num_classes", "head_width", "registers", "merge_tokens"):
            self._set(field, check_integer(field, getattr(self, field), minimum=0))
        for blocks in self.stem_blocks:
            check_integer("stem_blocks", blocks, minimum=1)
        for field, choices in _CHOICES.items():
            check_choice(field, getattr(self, field), choices)
        for field in ("dropout", "attention_dropout", "patch_dropout", "stochastic_depth"):
            rate = getattr(self, field)
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
                raise InputError(f"{field} must be a fraction in [0, 1). Got {field}={rate!r}.")
        if not isinstance(self.norm_epsilon, float) or not 0 < self.norm_epsilon < 1:
            raise InputError(
                f"norm_epsilon must be a small positive float such as 1e-6. "
                f"Got norm_epsilon={self.norm_epsilon!r}."
            )
        self._check_divisibility()
        self._check_tokens()

    def _set(self, field, value):
        object.__setattr__(self, field, value)  # the instance is frozen for everybody else

    def _check_divisibility(self):
        sides = as_image_size(self.image_size)
        if any(side % self.patch_size for side in sides):
            nearest = tuple(
                max(1, round(side / self.patch_size)) * self.patch_size for side in sides
            )
            raise InputError(
                f"image_size must be a multiple of patch_size. Got image_size={self.image_size}, "
                f"patch_size={self.patch_size}; try image_size={nearest}."
            )
        if self.width % self.heads:
            raise InputError(
                f"heads must divide width. Got heads={self.heads}, width={self.width}; "
                f"try heads={_nearest_divisor(self.width, self.heads)}."
            )
        if self.positions == "sincos2d" and self.width % 4:
            raise InputError(
                f"sincos2d positions need a width divisible by 4 (sine and cosine of x and y). "
                f"Got width={self.width}; try width={max(4, round(self.width / 4) * 4)}."
            )

        whole = self.patch_size % self.stem_stride == 0
        if not whole or (self.stem == "convolutions" and self.patch_size != self.stem_stride):
            raise InputError(
                f"stem={self.stem!r} shrinks the image {self.stem_stride} times, which must fit "
                f"patch_size. Got patch_size={self.patch_size}; "
                f"try patch_size={self.stem_stride}."
            )

    def _check_tokens(self):
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

    @property
    def grid(self):
        """Patches down and across, (rows, columns)."""
        height, width = as_image_size(self.image_size)
        return height // self.patch_size, width // self.patch_size

    @property
    def prefix_tokens(self):
        """The learned tokens before the patches, in order: {name: how many}."""
        cls = self.pooling == "cls" if self.cls_token is None else self.cls_token
        counts = {"cls": int(cls), "dist": int(self.distilled), "registers": self.registers}
        return {name: count for name, count in counts.items() if count}

    @property
    def stem_stride(self):
        """Pixels between neighbours in what the stem's convolutions leave of the image."""
        if self.stem == "resnet":
            return 4 * 2 ** max(0, len(self.stem_blocks) - 1)  # all stages but the first halve it
        if self.stem == "convolutions":
            return (2 * convolution_stride(self.stem_kernel)) ** self.stem_layers
        return 1

    @property
    def stem_layers(self):
        """How many of the convolutions of stem "convolutions" make patch_size of one pixel"""
        layer = 2 * convolution_stride(self.stem_kernel)  # the other half is max-pooling
        return max(1, round(math.log(self.patch_size, layer)))


def convolution_stride(kernel):
    """Stride of CCT's convolutions with a kernel of that many pixels, 1 for 3 and 2 for 7."""
    return max(1, kernel // 2 - 1)


_POSITIVE = (
    "channels",
    "patch_size",
    "width",
    "depth",
    "heads",
    "mlp_width",
    "stem_width",
    "stem_kernel",
)
_SWITCHES = (
    "distilled",
    "prefix_positions",
    "pre_norm",
    "norm_after_pooling",
    "qkv_bias",
    "qk_norm",
    "locality_attention",
    "swiglu",
    "trim_last_block",
)
_CHOICES: dict[str, tuple] = {
    "stem": STEMS,
    "pooling": POOLINGS,
    "cls_token": (None, False, True),
    "positions": POSITIONS,
    "position_resize": POSITION_RESIZES,
    "gelu": GELUS,
    **dict.fromkeys(_SWITCHES, (False, True)),
}
