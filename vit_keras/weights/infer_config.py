"""Arrays under our names, and what their family tells -> ViTConfig."""

import math
import re

from vit_keras.config import ViTConfig
from vit_keras.tasks.masked import DecoderConfig
from vit_keras.utils.checks import as_image_size
from vit_keras.utils.errors import InputError
from vit_keras.variants import VARIANTS
from vit_keras.weights.families.name_table import PATCH_KERNEL, POSITIONS


def infer_config(ours, known, image_size=None, weights_image_size=None, otherwise=None):
    """The config of the model that the arrays were trained in, and what had to be assumed.

    Args:
        ours: {our path: array}.
        known: fields of ViTConfig that the checkpoint's family or the caller tells.
        image_size: pixels the caller wants, which tells the grid where it cannot be known
            otherwise: a grid that is not square, or fixed positions.
        weights_image_size: pixels the caller says the checkpoint was made for.
        otherwise: heads where neither the checkpoint nor its width tells them, or None.

    Returns:
        ViTConfig at the checkpoint's own image size, tuple of sentences.

    Raises:
        InputError: for what neither shapes nor settings tell, with the argument to pass.
    """
    patch_side, _, features, width = ours[PATCH_KERNEL].shape
    assumed = []
    fields = {
        **_stem(ours, patch_side, features),
        "width": width,
        "depth": _count(ours, r"block_(\d+)/"),
        "mlp_width": len(ours["block_0/mlp/reduce/kernel"]),
        "num_classes": _units(ours, "head"),
        "head_width": _units(ours, "pre_logits"),
        "distilled": "patch_encoder/dist" in ours
        and ("head_dist/kernel" in ours or "head/kernel" not in ours),
        "registers": ours["patch_encoder/registers"].shape[1]
        if "patch_encoder/registers" in ours
        else 0,
        "positions": "learned" if POSITIONS in ours else "sincos2d",
        "pre_norm": "pre_norm/gamma" in ours,
        "layer_scale": 1e-5 if "block_0/scale1" in ours else 0.0,
        "qkv_bias": "block_0/attention/qkv/bias" in ours,
        "qk_norm": "block_0/attention/query_norm/gamma" in ours,
    }
    cls_token = "patch_encoder/cls" in ours
    if "pool/probe" in ours:
        fields.update(pooling="map", cls_token=cls_token)
    elif not cls_token:
        fields["pooling"] = "mean"
    fields.update(known)
    if fields.get("pooling") == "mean":
        fields["cls_token"] = cls_token
    if "heads" not in fields:
        usual = width in _HEADS
        fields["heads"] = usual_heads(width) if usual or not otherwise else otherwise
        if not usual:
            assumed.append(f"heads={fields['heads']}; pass heads=N if it has another number")
    patch_size = fields["patch_size"]
    prefix = cls_token + ("patch_encoder/dist" in ours) + fields["registers"]
    rows = ours[POSITIONS].shape[1] if POSITIONS in ours else None
    own, wanted = (
        size and tuple(side // patch_size for side in as_image_size(size))
        for size in (weights_image_size or known.get("image_size"), image_size)
    )
    scaled = bool(fields["layer_scale"])
    conventions = _conventions(known, bool(fields["registers"]), scaled)
    grid, fields["prefix_positions"] = _grid(rows, prefix, conventions, own, wanted)
    if weights_image_size and grid != own:
        raise InputError(
            f"weights_image_size={weights_image_size} makes {own[0]}x{own[1]} patches, and the "
            f"checkpoint has {rows} positions."
        )
    fields["image_size"] = tuple(side * fields["patch_size"] for side in grid)
    return ViTConfig.from_fields(**fields), tuple(assumed)


def infer_decoder(ours, known):
    """The DecoderConfig of a masked autoencoder, and what had to be assumed"""
    width = ours["decoder_embed/kernel"].shape[1]
    # The paper's: 16 heads at width 512.
    fields = {"heads": 16 if width == 512 else usual_heads(width), **known}
    assumed = [] if "heads" in known else [f"{fields['heads']} heads in the decoder"]
    return DecoderConfig(
        width=width,
        depth=_count(ours, r"decoder_block_(\d+)/"),
        mlp_width=len(ours["decoder_block_0/mlp/reduce/kernel"]),
        **fields,
    ), tuple(assumed)


_HEADS = {
    config.width: config.block.heads
    for name, config in VARIANTS.items()
    if name.startswith(("vit_ti16", "vit_s16", "vit_m16", "vit_b16", "vit_l16", "vit_h14", "vit_g"))
    or name == "vit_so400m14"
}


def usual_heads(width):
    """The heads of published models of that width; otherwise heads of 64, or fewer if narrow.

    Raises:
        InputError: where no such number divides the width.
    """
    if width in _HEADS:
        return _HEADS[width]
    for head_width in (64, 32, 16, 8, 4):
        if width % head_width == 0 and width > head_width:
            return width // head_width
    raise InputError(f"the checkpoint does not tell its attention heads; pass heads=N for {width}.")


def _stem(ours, patch_side, features):
    if "stem/conv_root/kernel" not in ours:
        return {"patch_size": patch_side, "channels": features}
    stages = _count(ours, r"stem/block(\d+)_", first=1)
    blocks = tuple(
        _count(ours, rf"stem/block{stage}_unit(\d+)/", first=1) for stage in range(1, stages + 1)
    )
    channels, width = ours["stem/conv_root/kernel"].shape[2:]
    stride = 4 * 2 ** max(0, stages - 1)
    return {
        "stem": "resnet",
        "stem_width": width,
        "stem_blocks": blocks,
        "patch_size": patch_side * stride,
        "channels": channels,
    }


def _count(ours, pattern, first=0):
    """How many of the numbered layers there are"""
    numbers = {int(match[1]) for name in ours if (match := re.match(pattern, name))}
    return max(numbers, default=first - 1) + 1 - first


def _units(ours, name):
    kernel = ours.get(f"{name}/kernel")
    return 0 if kernel is None else kernel.shape[1]


def _conventions(known, registers, scaled):
    """Whether tables of positions may have rows for the prefix, the likelier first, and how many
    of the two a square grid is enough to believe."""
    if "prefix_positions" in known:
        return (known["prefix_positions"],), 1
    if registers:  # published models with registers have positions for the patches alone
        return (False, True), 1 + scaled
    return (True, False), 1 + scaled  # of those with layer scale, DINOv2 has them, DeiT III not


def _grid(rows, prefix, conventions, own, wanted):
    """The grid of patches, and whether the table of positions has rows for the prefix.

    Args:
        rows: of the table; None for fixed positions.
        prefix: tokens before the patches.
        conventions: of `_conventions`.
        own: the grid the checkpoint or the caller says it was made for, or None.
        wanted: the grid the caller wants, or None.
    """
    if rows is None:
        if own or wanted:
            return own or wanted, True
        raise InputError(
            "the checkpoint has fixed positions and does not tell the size of its images; pass "
            "image_size=PIXELS or (height, width)."
        )
    ways, believed = conventions
    counts = [(prefixed, rows - prefix * prefixed) for prefixed in ways]
    squares = [((math.isqrt(max(0, n)),) * 2, way, n) for way, n in counts[:believed]]

    def fitting(candidates):
        return [
            (grid, prefixed or not prefix)
            for grid, prefixed, patches in candidates
            if grid and patches > 0 and grid[0] * grid[1] == patches
        ]

    certain = fitting([(own, *count) for count in counts])
    square = fitting(squares)
    as_wanted = fitting([(wanted, *count) for count in counts[: believed if square else None]])
    if certain:
        return certain[0]
    if square and (not as_wanted or as_wanted[0][0] in {grid for grid, _ in square}):
        return square[0]
    if as_wanted and not square:
        return as_wanted[0]
    raise InputError(
        f"the checkpoint's {counts[0][1]} patches are "
        f"{'no square grid' if not square else 'a square grid or the one of image_size'}; pass "
        f"weights_image_size=(height, width), the size of the images it was made for."
    )
