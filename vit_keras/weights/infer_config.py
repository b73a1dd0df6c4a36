"""Arrays under a model's names, and the settings of their family -> ViTConfig."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_keras.config import ViTConfig
from vit_keras.tasks.masked import DecoderConfig
from vit_keras.utils.checks import as_image_size
from vit_keras.utils.errors import InputError
from vit_keras.variants import VARIANTS
from vit_keras.weights.assumption import Assumption
from vit_keras.weights.checkpoint import shorten
from vit_keras.weights.families.name_table import PATCH_KERNEL, POSITIONS
from vit_keras.weights.infer_grid import infer_grid, table_layouts

_MLP = "block_0/mlp/reduce/kernel"
_DECODER_EMBED = "decoder_embed/kernel"
_DECODER_MLP = "decoder_block_0/mlp/reduce/kernel"

Arrays = Mapping[str, np.ndarray]


def required_names(arrays: Arrays) -> list[str]:
    """Names of the arrays without which nothing can be inferred.

    Args:
        arrays: {name: array}; a masked autoencoder needs more than a classifier.
    """
    decoder = [_DECODER_MLP] if _DECODER_EMBED in arrays else []
    return [PATCH_KERNEL, _MLP, *decoder]


def infer_config(
    arrays: Arrays,
    settings: Mapping[str, Any],
    image_size: int | tuple[int, int] | None = None,
    weights_image_size: int | tuple[int, int] | None = None,
    default_heads: int | None = None,
) -> tuple[ViTConfig, tuple[Assumption, ...]]:
    """The config of the model that the arrays were trained in.

    Args:
        arrays: {name: array}, with all of `required_names`.
        settings: fields of ViTConfig that the checkpoint or the caller specifies.
        image_size: pixels of the new model; it decides the grid if nothing else does.
        weights_image_size: pixels that the checkpoint was trained with, from the caller.
        default_heads: heads if neither the checkpoint nor its width specifies them.

    Returns:
        ViTConfig at the checkpoint's own image size, and what was assumed.

    Raises:
        InputError: for arrays and settings that no ViT has, and for a field to be passed.
    """
    fields = {**_stem(arrays), **_sizes(arrays), **_tokens(arrays), **settings}
    if fields.get("pooling") == "mean":
        fields["cls_token"] = "patch_encoder/cls" in arrays
    assumptions: tuple[Assumption, ...] = ()
    if "heads" not in fields:
        fields["heads"], assumptions = _infer_heads(fields["width"], default_heads)
    own_image_size = weights_image_size or fields.get("image_size")
    # One patch, until the grid is known: ViTConfig checks all values before they are used.
    config = ViTConfig.from_fields(**{**fields, "image_size": fields["patch_size"]})
    own_grid = _grid_of(own_image_size, config.patch_size)
    target_grid = _grid_of(image_size, config.patch_size)
    prefix_positions = config.prefix_positions if "prefix_positions" in fields else None
    grid, prefix_rows = _infer_positions(arrays, config, prefix_positions, own_grid, target_grid)
    if weights_image_size and grid != own_grid:
        _refuse_image_size(weights_image_size, own_grid, arrays)
    own_image_size = tuple(side * config.patch_size for side in grid)
    return config.replace(image_size=own_image_size, prefix_positions=prefix_rows), assumptions


def _refuse_image_size(weights_image_size, grid, arrays):
    raise InputError(
        f"weights_image_size={weights_image_size} makes {grid[0]}x{grid[1]} patches, and the "
        f"checkpoint has {arrays[POSITIONS].shape[1]} positions."
    )


def infer_decoder(
    arrays: Arrays, settings: Mapping[str, Any], encoder: ViTConfig
) -> tuple[DecoderConfig, tuple[Assumption, ...]]:
    """The config of a masked autoencoder's decoder.

    Args:
        arrays: {name: array}, with all of `required_names`.
        settings: fields of DecoderConfig that the checkpoint specifies.
        encoder: of the same checkpoint.

    Returns:
        DecoderConfig, and what was assumed.

    Raises:
        InputError: for arrays and settings that no decoder has.
    """
    width = arrays[_DECODER_EMBED].shape[1]
    fields = dict(settings)
    assumptions: tuple[Assumption, ...] = ()
    if "heads" not in settings:
        # The paper's decoder has 16 heads at width 512.
        fields["heads"] = 16 if width == 512 else usual_heads(width)
        why = "usual for such models; config.json specifies it"
        assumptions = (Assumption("decoder.heads", fields["heads"], why),)
    decoder = DecoderConfig(
        width=width,
        depth=_count(arrays, "decoder blocks", r"decoder_block_(\d+)/"),
        mlp_width=len(arrays[_DECODER_MLP]),
        **fields,
    )
    decoder.vit_config(encoder)  # raises an InputError if no block has these widths and heads
    return decoder, assumptions


_PUBLISHED_HEADS = {
    config.width: config.block.heads
    for name, config in VARIANTS.items()
    if name.startswith(("vit_ti16", "vit_s16", "vit_m16", "vit_b16", "vit_l16", "vit_h14", "vit_g"))
    or name == "vit_so400m14"
}


def usual_heads(width: int) -> int:
    """The heads of published models of a width; otherwise heads of 64 units, or less if narrow.

    Raises:
        InputError: if no such number divides the width.
    """
    if width in _PUBLISHED_HEADS:
        return _PUBLISHED_HEADS[width]
    for head_width in (64, 32, 16, 8, 4):
        if width % head_width == 0 and width > head_width:
            return width // head_width
    raise InputError(
        f"it does not specify its attention heads; pass heads=N, a divisor of its width {width}."
    )


def _infer_heads(width, default_heads):
    """Heads, and an Assumption about them if they do not follow from the width."""
    if width in _PUBLISHED_HEADS:
        return _PUBLISHED_HEADS[width], ()
    if default_heads:
        return default_heads, (Assumption("heads", default_heads, "as in the model"),)
    heads = usual_heads(width)
    return heads, (Assumption("heads", heads, "pass heads=N if the model has another number"),)


def _stem(arrays):
    """Fields of the stem and the patches."""
    height, side, features, _ = arrays[PATCH_KERNEL].shape
    if height != side:
        raise InputError(f"its patches must be square. Got {height}x{side} pixels.")
    if "stem/conv_root/kernel" not in arrays:
        return {"patch_size": side, "channels": features}
    stages = _count(arrays, "stages of its ResNet", r"stem/block(\d+)_", first=1)
    channels, width = arrays["stem/conv_root/kernel"].shape[2:]
    return {
        "stem": "resnet",
        "stem_width": width,
        "stem_blocks": tuple(
            _count(arrays, f"units of stage {stage}", rf"stem/block{stage}_unit(\d+)/", first=1)
            for stage in range(1, stages + 1)
        ),
        "patch_size": side * 4 * 2 ** max(0, stages - 1),
        "channels": channels,
    }


def _sizes(arrays):
    """Fields of the blocks and the head."""
    return {
        "width": arrays[PATCH_KERNEL].shape[-1],
        "depth": _count(arrays, "blocks", r"block_(\d+)/"),
        "mlp_width": len(arrays[_MLP]),
        "num_classes": _units(arrays, "head"),
        "head_width": _units(arrays, "pre_logits"),
        "pre_norm": "pre_norm/gamma" in arrays,
        "layer_scale": 1e-5 if "block_0/scale1" in arrays else 0.0,
        "qkv_bias": "block_0/attention/qkv/bias" in arrays,
        "qk_norm": "block_0/attention/query_norm/gamma" in arrays,
    }


def _tokens(arrays):
    """Fields of the tokens before the patches, the positions and the pooling."""
    cls_token = "patch_encoder/cls" in arrays
    registers = arrays.get("patch_encoder/registers")
    has_teacher_head = "head_dist/kernel" in arrays or "head/kernel" not in arrays
    fields = {
        "distilled": "patch_encoder/dist" in arrays and has_teacher_head,
        "registers": 0 if registers is None else registers.shape[1],
        "positions": "learned" if POSITIONS in arrays else "sincos2d",
    }
    if "pool/probe" in arrays:
        fields.update(pooling="map", cls_token=cls_token)
    elif not cls_token:
        fields["pooling"] = "mean"
    return fields


def _grid_of(image_size, patch_size):
    if image_size is None:
        return None
    return tuple(side // patch_size for side in as_image_size(image_size))


def _infer_positions(arrays, config, prefix_positions, own_grid, target_grid):
    """The grid of patches, and whether the tokens before the patches have positions."""
    if POSITIONS in arrays:
        prefix_count = config.registers + sum(
            name in arrays for name in ("patch_encoder/cls", "patch_encoder/dist")
        )
        layouts = table_layouts(
            prefix_positions, bool(config.registers), bool(config.block.layer_scale)
        )
        rows = arrays[POSITIONS].shape[1]
        grid, prefix_rows = infer_grid(rows, prefix_count, layouts, own_grid, target_grid)
        return grid, prefix_rows or not prefix_count
    grid = own_grid or target_grid
    if grid is None:
        raise InputError(
            "it has fixed positions and does not specify its image size; pass image_size=PIXELS "
            "or (height, width)."
        )
    return grid, True


def _count(arrays, layers, pattern, first=0):
    """The number of layers with numbered names.

    Raises:
        InputError: if a number between the first and the last is missing.
    """
    numbers = {int(match[1]) for name in arrays if (match := re.match(pattern, name))}
    last = max(numbers, default=first - 1)
    missing = sorted(set(range(first, last + 1)) - numbers)
    if missing:
        raise InputError(
            f"it is not a complete ViT: of its {layers} {first} to {last}, "
            f"{shorten(map(str, missing))} are missing."
        )
    return len(numbers)


def _units(arrays, name):
    kernel = arrays.get(f"{name}/kernel")
    return 0 if kernel is None else kernel.shape[1]
