"""Facebook's .pth files: DeiT, DeiT III, DINOv2 and MAE, with or without its decoder."""

import re

from vit_keras.weights.checkpoint import Checkpoint
from vit_keras.weights.families import timm
from vit_keras.weights.families.family import (
    IMAGENET,
    PRE_TRAINING,
    Family,
    PreparedCheckpoint,
    fold_cls_position,
    rename,
    without_prefix,
)
from vit_keras.weights.families.name_table import (
    TORCH_LINEAR,
    TORCH_NORM,
    TORCH_TOKENS,
    Row,
    check_ranks,
    layer_rows,
)

ROWS = (
    *timm.ROWS,
    Row("decoder_mask_token", "fill_in/mask", TORCH_TOKENS),
    Row("decoder_pos_embed", "fill_in/positions", TORCH_TOKENS),
    *layer_rows(TORCH_LINEAR, "decoder_embed", "decoder_embed"),
    *timm.block_rows("decoder_blocks.{}", "decoder_block_{}"),
    *layer_rows(TORCH_NORM, "decoder_norm", "decoder_norm"),
    *layer_rows(TORCH_LINEAR, "decoder_pred", "decoder_prediction"),
)

_RENAMES = (
    (r"\.gamma_([12])$", r".ls\1.gamma"),  # DeiT III
    (r"\.mlp\.w12\.", ".mlp.fc1."),  # DINOv2's g/14
    (r"\.mlp\.w3\.", ".mlp.fc2."),
    (r"^register_tokens$", "reg_token"),
)
# No model of Facebook's has these names; torch also pickles timm's.
_TIMM_ONLY = r"(norm_pre|attn_pool|q_norm|pre_logits\.fc)\.|reg_token$"
_FACEBOOK_ONLY = r"\.gamma_[12]$|^decoder_embed\.|^register_tokens$"


def _prepare(checkpoint: Checkpoint) -> PreparedCheckpoint:
    arrays = rename(without_prefix(checkpoint.arrays, timm.PATCH), _RENAMES)
    left_out = {}
    if "decoder_embed.weight" in arrays and "mask_token" in arrays:
        arrays["decoder_mask_token"] = arrays.pop("mask_token")
    elif "mask_token" in arrays:
        left_out["mask_token"] = PRE_TRAINING
        del arrays["mask_token"]
    check_ranks(ROWS, arrays)
    config = {**timm.config_of_names(arrays), "norm_epsilon": 1e-6, "gelu": "exact"}
    if any(name.endswith("register_tokens") for name in checkpoint.arrays):
        fold_cls_position(arrays, "cls_token", "pos_embed")
    if any(name.endswith("gamma_1") for name in checkpoint.arrays):
        config["prefix_positions"] = False  # DeiT III
    preprocessing = {**IMAGENET, "crop": 0.875, "interpolation": "bicubic"}
    return PreparedCheckpoint(arrays, config, preprocessing, left_out=left_out)


def _recognises(checkpoint):
    names = checkpoint.arrays
    if "architecture" in checkpoint.config or not timm.TIMM.recognises(checkpoint):
        return False
    if any(re.search(_TIMM_ONLY, name) for name in names):
        return False
    return checkpoint.pickled or any(re.search(_FACEBOOK_ONLY, name) for name in names)


FACEBOOK = Family(
    name="facebook",
    rows=ROWS,
    recognises=_recognises,
    prepare=_prepare,
    position_resize="bicubic",
    patch_resize="bicubic_antialias",
)
