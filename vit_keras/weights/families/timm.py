"""timm's files: .safetensors with the names of timm/models/vision_transformer.py."""

import re
from collections.abc import Mapping

import numpy as np

from vit_keras.utils.errors import InputError
from vit_keras.weights.assumption import Assumption
from vit_keras.weights.checkpoint import Checkpoint
from vit_keras.weights.families.family import (
    HALF,
    IMAGENET,
    NO_POSITIONS,
    PRE_TRAINING,
    Family,
    PreparedCheckpoint,
    assume,
    is_swiglu,
    unique_names,
    without_prefix,
)
from vit_keras.weights.families.name_table import (
    PATCH_KERNEL,
    POSITIONS,
    TORCH_IMAGE_KERNEL,
    TORCH_LINEAR,
    TORCH_NORM,
    TORCH_TOKENS,
    VECTOR,
    Row,
    check_ranks,
    layer_rows,
)


def block_rows(source_name: str, name: str) -> tuple[Row, ...]:
    """Rows of timm's Block; Facebook's code has the same names."""
    return (
        *layer_rows(TORCH_NORM, f"{source_name}.norm1", f"{name}/norm1"),
        *layer_rows(TORCH_LINEAR, f"{source_name}.attn.qkv", f"{name}/attention/qkv"),
        *layer_rows(TORCH_NORM, f"{source_name}.attn.q_norm", f"{name}/attention/query_norm"),
        *layer_rows(TORCH_NORM, f"{source_name}.attn.k_norm", f"{name}/attention/key_norm"),
        *layer_rows(TORCH_LINEAR, f"{source_name}.attn.proj", f"{name}/attention/projection"),
        Row(f"{source_name}.ls1.gamma", f"{name}/scale1", VECTOR),
        *layer_rows(TORCH_NORM, f"{source_name}.norm2", f"{name}/norm2"),
        *layer_rows(TORCH_LINEAR, f"{source_name}.mlp.fc1", f"{name}/mlp/expand"),
        *layer_rows(TORCH_LINEAR, f"{source_name}.mlp.fc2", f"{name}/mlp/reduce"),
        Row(f"{source_name}.ls2.gamma", f"{name}/scale2", VECTOR),
    )


ROWS = (
    Row("cls_token", "patch_encoder/cls", TORCH_TOKENS),
    Row("dist_token", "patch_encoder/dist", TORCH_TOKENS),
    Row("reg_token", "patch_encoder/registers", TORCH_TOKENS),
    Row("pos_embed", POSITIONS, TORCH_TOKENS),
    Row("patch_embed.proj.weight", PATCH_KERNEL, TORCH_IMAGE_KERNEL),
    Row("patch_embed.proj.bias", "patch_encoder/projection/bias", VECTOR),
    *layer_rows(TORCH_NORM, "norm_pre", "pre_norm"),
    *block_rows("blocks.{}", "block_{}"),
    *layer_rows(TORCH_NORM, "norm", "norm"),
    *layer_rows(TORCH_NORM, "fc_norm", "norm"),
    Row("attn_pool.latent", "pool/probe", TORCH_TOKENS),
    *layer_rows(TORCH_LINEAR, "attn_pool.q", "pool/query"),
    *layer_rows(TORCH_LINEAR, "attn_pool.kv", "pool/key_value"),
    *layer_rows(TORCH_LINEAR, "attn_pool.proj", "pool/projection"),
    *layer_rows(TORCH_NORM, "attn_pool.norm", "pool/norm"),
    *layer_rows(TORCH_LINEAR, "attn_pool.mlp.fc1", "pool/mlp/expand"),
    *layer_rows(TORCH_LINEAR, "attn_pool.mlp.fc2", "pool/mlp/reduce"),
    *layer_rows(TORCH_LINEAR, "pre_logits.fc", "pre_logits"),
    *layer_rows(TORCH_LINEAR, "head", "head"),
    *layer_rows(TORCH_LINEAR, "head_dist", "head_dist"),
)

PATCH = "patch_embed.proj.weight"
CLIP = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
# Fields that arrays do not show, of architectures in timm 1.0.31's vision_transformer.py, by the
# start of their names.
_ARCHITECTURES: dict[str, dict] = {
    "vit_base_patch32_siglip": {"gelu": "tanh"},
    "vit_large_patch16_siglip_512": {"gelu": "tanh"},
    "vit_large_patch16_siglip_gap_512": {"gelu": "tanh"},
    "vit_so400m_patch16_siglip": {"gelu": "tanh"},
    "vit_giantopt_patch16_siglip": {"gelu": "tanh", "heads": 16},
    "vit_base_patch16_gap": {"heads": 16},
    "deit3_": {"prefix_positions": False},
}
# Other models with the same array names: rotary positions, norms after the branches, ...
_OTHER_MODELS = re.compile(
    r"_rope_|_rpn_|vit_pe_|_parallel_|^eva|^beit|^samvit|^naflexvit|_dinov3|^test_vit3"
)
_TOWER = "visual.trunk."
POOLINGS = {"token": "cls", "avg": "mean", "map": "map"}
# crop_mode: resize of Preprocessing. timm's borders have the mean colour, this project's are black.
CROP_MODES = {"center": "crop", "squash": "squash", "border": "pad"}
GELUS = {"gelu": "exact", "gelu_tanh": "tanh", "quick_gelu": "quick"}


def config_of_names(arrays: Mapping[str, np.ndarray]) -> dict:
    """Fields of ViTConfig that the array names of timm and Facebook show.

    Args:
        arrays: {source name: array}, of the ranks in ROWS.

    Raises:
        InputError: for a model without a table of positions.
    """
    if "pos_embed" not in arrays:
        raise InputError(NO_POSITIONS)
    config: dict = {}
    if "fc_norm.weight" in arrays:
        config["norm_after_pooling"] = True
        if "attn_pool.latent" not in arrays:
            config["pooling"] = "mean"
    query_norm = arrays.get("blocks.0.attn.q_norm.weight")
    if query_norm is not None:
        config["heads"] = arrays[PATCH].shape[0] // len(query_norm)
    config["swiglu"] = is_swiglu(arrays, "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight")
    return config


def _image_arrays(arrays):
    """The image model's arrays under the names in ROWS, and {source name: why} of the others."""
    left_out = {}
    if _TOWER + PATCH in arrays:  # OpenCLIP's
        left_out = {
            name: "is not part of the image model" for name in arrays if not name.startswith(_TOWER)
        }
        arrays = {name: array for name, array in arrays.items() if name not in left_out}
    arrays = without_prefix(arrays, PATCH)
    if "mask_token" in arrays:
        left_out["mask_token"] = PRE_TRAINING
        del arrays["mask_token"]
    return arrays, left_out


def _prepare(checkpoint: Checkpoint) -> PreparedCheckpoint:
    arrays, left_out = _image_arrays(checkpoint.arrays)
    check_ranks(ROWS, arrays)
    # The hub's settings: pretrained_cfg, and the arguments in which a model differs from its name.
    published = checkpoint.config.with_section("pretrained_cfg")
    quick = _has_quick_gelu(checkpoint, published, arrays)
    config = {
        **config_of_names(arrays),
        "gelu": "quick" if quick else "exact",
        **_config(checkpoint, published, arrays),
    }
    preprocessing = _preprocessing(published, arrays)
    assumptions = assume(
        {
            name: preprocessing[name]
            for name in ("mean", "std")
            if published.values.get(name) is None
        },
        "usual for such models; the config.json of timm's hub specifies it",
    )
    if not checkpoint.config:
        assumptions += tuple(_doubts(arrays, quick))
    return PreparedCheckpoint(
        arrays,
        config,
        preprocessing,
        class_names=unique_names(published.texts("label_names")),
        left_out=left_out,
        assumptions=assumptions,
    )


def _has_quick_gelu(checkpoint, published, arrays):
    """Whether a CLIP model's architecture, tag or file name says quick-GELU."""
    file_names = f"{checkpoint.path.name} {checkpoint.path.parent.name}"
    architecture = published.text("architecture")
    tag = published.text("tag")
    return "norm_pre.weight" in arrays and (
        "quickgelu" in f"{architecture} {file_names}"
        or tag.startswith(("openai", "metaclip", "dfn"))
    )


def _config(checkpoint, published, arrays):
    """Fields of ViTConfig in config.json, and epsilon, which follows from the architecture."""
    architecture = published.text("architecture")
    if _OTHER_MODELS.search(architecture):
        raise InputError(f"timm's {architecture} is not a plain ViT, which it must be")
    config: dict = {"norm_epsilon": 1e-5 if "norm_pre.weight" in arrays else 1e-6}
    for start, fields in _ARCHITECTURES.items():
        if architecture.startswith(start):
            config.update(fields)
    arguments = checkpoint.config.section("model_args")
    if arguments.boolean("pool_include_prefix", False):
        raise InputError("pool_include_prefix=True is not supported")
    for field, name, choices in (
        ("gelu", "act_layer", GELUS),
        ("pooling", "global_pool", POOLINGS),
    ):
        settings = arguments if name in arguments else checkpoint.config
        value = settings.choice(name, choices)
        if value is not None:
            config[field] = value
    if "num_heads" in arguments:
        config["heads"] = arguments.integer("num_heads")
    input_size = _input_size(published)
    size = arguments.sides("img_size") or input_size
    if size:
        config["image_size"] = size
    return config


def _input_size(published):
    """(height, width) of input_size, [channels, height, width]; None if there is none."""
    size = published.integers("input_size")
    if size is None:
        return None
    if len(size) != 3:
        published.refuse("input_size", "[channels, height, width]")
    return size[1:]


def _doubts(arrays, quick):
    """Assumptions about what only config.json specifies."""
    if "norm_pre.weight" in arrays and not quick:
        yield Assumption(
            "gelu", "exact", "as in timm's CLIP models; OpenAI's own need gelu='quick'"
        )
    elif "attn_pool.latent" in arrays:
        yield Assumption("gelu", "exact", "the larger models of SigLIP 2 need gelu='tanh'")
    pools_otherwise = {"fc_norm.weight", "attn_pool.latent"} & set(arrays)
    if "cls_token" in arrays and not pools_otherwise:
        yield Assumption(
            "pooling", "cls", "pass pooling='mean' for a model that averages its patches"
        )


def _preprocessing(published, arrays):
    if "norm_pre.weight" in arrays:
        usual = CLIP
    elif "dist_token" in arrays or "blocks.0.ls1.gamma" in arrays:
        usual = IMAGENET
    else:
        usual = HALF
    bilinear = published.text("interpolation", "bicubic") == "bilinear"
    crop_mode = published.text("crop_mode", "center")
    return {
        "mean": published.numbers("mean", usual["mean"]),
        "std": published.numbers("std", usual["std"]),
        "crop": published.number("crop_pct", 0.9, at_most=1),
        "resize": CROP_MODES.get(crop_mode, "crop"),
        "interpolation": "bilinear" if bilinear else "bicubic",
    }


TIMM = Family(
    name="timm",
    rows=ROWS,
    recognises=lambda checkpoint: any(name.endswith(PATCH) for name in checkpoint.arrays),
    prepare=_prepare,
    position_resize="bicubic_antialias",
    patch_resize="bicubic_antialias",
)
