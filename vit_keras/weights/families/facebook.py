"""Facebook's .pth files: DeiT, DeiT III, DINOv2 and MAE, with its decoder or without."""

import re

from vit_keras.weights.checkpoint import Checkpoint
from vit_keras.weights.families import timm
from vit_keras.weights.families.family import (
    IMAGENET,
    PRE_TRAINING,
    Family,
    Prepared,
    fold_cls_position,
    renamed,
    without_prefix,
)
from vit_keras.weights.families.name_table import TOKEN, Row, torch_linear, torch_norm

ROWS = (
    *timm.ROWS,
    Row("decoder_mask_token", "fill_in/mask", TOKEN),
    Row("decoder_pos_embed", "fill_in/positions", TOKEN),
    *torch_linear("decoder_embed", "decoder_embed"),
    *timm.torch_blocks("decoder_blocks.{}", "decoder_block_{}"),
    *torch_norm("decoder_norm", "decoder_norm"),
    *torch_linear("decoder_pred", "decoder_prediction"),
)

_RENAMES = (
    (r"\.gamma_([12])$", r".ls\1.gamma"),  # DeiT III
    (r"\.mlp\.w12\.", ".mlp.fc1."),  # DINOv2's g/14
    (r"\.mlp\.w3\.", ".mlp.fc2."),
    (r"^register_tokens$", "reg_token"),
)
# No model of Facebook's has these; torch also pickles timm's.
_TIMM_ALONE = r"(norm_pre|attn_pool|q_norm|pre_logits\.fc)\.|reg_token$"


def _prepare(checkpoint: Checkpoint) -> Prepared:
    folds = any(name.endswith("register_tokens") for name in checkpoint.arrays)
    arrays = renamed(without_prefix(checkpoint.arrays, timm.PATCH), _RENAMES)
    left_out = {}
    if "decoder_embed.weight" in arrays:
        arrays["decoder_mask_token"] = arrays.pop("mask_token")
    elif "mask_token" in arrays:
        left_out["mask_token"] = PRE_TRAINING
        del arrays["mask_token"]
    if folds and "pos_embed" in arrays:
        fold_cls_position(arrays, "cls_token", "pos_embed")
    config = {**timm.settings_of_names(arrays), "norm_epsilon": 1e-6, "gelu": "exact"}
    if any(name.endswith("gamma_1") for name in checkpoint.arrays):
        config["prefix_positions"] = False  # DeiT III
    preprocessing = {**IMAGENET, "crop": 0.875, "interpolation": "bicubic"}
    return Prepared(arrays, config, preprocessing, left_out=left_out)


def _recognises(checkpoint):
    if any(re.search(_TIMM_ALONE, name) for name in checkpoint.arrays):
        return False
    facebooks = checkpoint.pickled or any(
        re.search(r"\.gamma_[12]$|^decoder_embed\.|^register_tokens$", name)
        for name in checkpoint.arrays
    )
    timms = "architecture" in checkpoint.config or not timm.TIMM.recognises(checkpoint)
    return facebooks and not timms


FACEBOOK = Family(
    name="facebook",
    rows=ROWS,
    recognises=_recognises,
    prepare=_prepare,
    position_resize="bicubic",
    patch_resize="bicubic_antialias",
)
