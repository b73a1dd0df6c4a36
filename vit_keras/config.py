"""A variant's name and overrides -> ViTConfig: every number that decides what a ViT computes."""

import dataclasses
import operator

from vit_keras.errors import InputError, did_you_mean

POOLINGS = ("cls", "mean")
POSITIONS = ("learned", "sincos2d")
GELUS = ("exact", "tanh")


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
        patch_size: pixels, the side P of the square patches.
        width: D, the length of a token.
        depth: L, the number of transformer blocks.
        heads: attention heads; each works on width / heads numbers.
        mlp_width: hidden units of each block's MLP.
        num_classes: logits; 0 builds the model without a head, its output is the pooled token.
        pooling: "cls" prepends a learned [CLS] token and reads it; "mean" has no such token and
            averages the patch tokens after the final norm.
        head_width: 0 for one linear layer; otherwise the tanh layer of that many units which the
            paper puts before it for pre-training (section 3.1).
        positions: "learned", or "sincos2d" for the fixed table of arXiv:2205.01580.
        shifted_patches: whether a patch also sees half a patch further on its diagonals, and is
            normalised (shifted patch tokenisation, arXiv:2112.13492); for few images.
        dropout: fraction, after the positions, the attention projection and both MLP layers.
        attention_dropout: fraction of attention weights dropped.
        stochastic_depth: fraction of images that skip the last block's branches; grows linearly
            from 0 at the first block (arXiv:1603.09382).
        norm_epsilon: added to the variance in every LayerNorm.
        gelu: "exact" (erf) or "tanh", the approximation Google's models were trained with.

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
    pooling: str = "cls"
    head_width: int = 0
    positions: str = "learned"
    shifted_patches: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    stochastic_depth: float = 0.0
    norm_epsilon: float = 1e-6
    gelu: str = "exact"

    def __post_init__(self):
        self._set("image_size", as_image_size(self.image_size))
        for field in ("channels", "patch_size", "width", "depth", "heads", "mlp_width"):
            self._set(field, check_integer(field, getattr(self, field), minimum=1))
        for field in ("num_classes", "head_width"):
            self._set(field, check_integer(field, getattr(self, field), minimum=0))
        for field, choices in (("pooling", POOLINGS), ("positions", POSITIONS), ("gelu", GELUS)):
            check_choice(field, getattr(self, field), choices)
        check_choice("shifted_patches", self.shifted_patches, (False, True))
        for field in ("dropout", "attention_dropout", "stochastic_depth"):
            rate = getattr(self, field)
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
                raise InputError(f"{field} must be a fraction in [0, 1). Got {field}={rate!r}.")
        if not isinstance(self.norm_epsilon, float) or not 0 < self.norm_epsilon < 1:
            raise InputError(
                f"norm_epsilon must be a small positive float such as 1e-6. "
                f"Got norm_epsilon={self.norm_epsilon!r}."
            )
        self._check_divisibility()

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

    @property
    def grid(self):
        """Patches down and across, (rows, columns)."""
        height, width = as_image_size(self.image_size)
        return height // self.patch_size, width // self.patch_size


def _vit(patch_size, width, depth, heads, mlp_width, **options):
    return ViTConfig(
        patch_size=patch_size,
        width=width,
        depth=depth,
        heads=heads,
        mlp_width=mlp_width,
        **options,
    )


# Adding a variant: one row here, with its source, and its parameter count in tests/test_config.py.
VARIANTS = {
    # arXiv:2010.11929, table 1; Ti and S as in arXiv:2106.10270, table 2.
    "vit_ti16": _vit(16, 192, 12, 3, 768),
    "vit_s32": _vit(32, 384, 12, 6, 1536),
    "vit_s16": _vit(16, 384, 12, 6, 1536),
    "vit_b32": _vit(32, 768, 12, 12, 3072),
    "vit_b16": _vit(16, 768, 12, 12, 3072),
    "vit_l32": _vit(32, 1024, 24, 16, 4096),
    "vit_l16": _vit(16, 1024, 24, 16, 4096),
    "vit_h14": _vit(14, 1280, 32, 16, 5120),
    # S/8 and B/8: the patch-8 models of DINO, arXiv:2104.14294, table 1.
    "vit_s8": _vit(8, 384, 12, 6, 1536),
    "vit_b8": _vit(8, 768, 12, 12, 3072),
    # M, g and G: big_vision's table of sizes (models/vit.py, decode_variant); g and G are
    # described in arXiv:2106.04560, table 2.
    "vit_m16": _vit(16, 512, 12, 8, 2048),
    "vit_g14": _vit(14, 1408, 40, 16, 6144),
    "vit_gigantic14": _vit(14, 1664, 48, 16, 8192),
    # arXiv:2305.13035, the shape-optimised model; mlp_width 4304.
    "vit_so400m14": _vit(14, 1152, 27, 16, 4304),
    # This project's, for images of 28-64 px: Ti with small patches; mini, half as deep; nano, whose
    # many short heads and two blocks won on 6,000 images of Fashion-MNIST.
    "vit_ti2": _vit(2, 192, 12, 3, 768, image_size=32),
    "vit_ti4": _vit(4, 192, 12, 3, 768, image_size=32),
    "vit_ti7": _vit(7, 192, 12, 3, 768, image_size=28),
    "vit_mini4": _vit(4, 192, 6, 3, 768, image_size=32),
    "vit_mini7": _vit(7, 192, 6, 3, 768, image_size=28),
    "vit_mini8": _vit(8, 192, 6, 3, 768, image_size=64),
    "vit_nano7": _vit(7, 128, 2, 16, 256, image_size=28),
}


def resolve_config(variant, **overrides):
    """Gives the ViTConfig of a variant's name (or of a ViTConfig) with fields replaced.

    Raises:
        InputError: unknown variant or field, with the nearest names.
    """
    if isinstance(variant, ViTConfig):
        config = variant
    elif variant in VARIANTS:
        config = VARIANTS[variant]
    else:
        raise InputError(
            f"variant must be a row of vit_keras.VARIANTS or a ViTConfig. "
            f"Got {variant!r}{did_you_mean(variant, VARIANTS)}."
        )
    known = [field.name for field in dataclasses.fields(ViTConfig)]
    for name in overrides:
        if name not in known:
            raise InputError(
                f"a ViTConfig has no field {name!r}{did_you_mean(name, known)}. "
                f"Its fields: {', '.join(known)}."
            )
    return dataclasses.replace(config, **overrides)
