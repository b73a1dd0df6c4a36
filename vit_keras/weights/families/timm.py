"""timm's files: .safetensors with the names of timm/models/vision_transformer.py."""

import re

from vit_keras.utils.errors import InputError
from vit_keras.weights.checkpoint import Checkpoint
from vit_keras.weights.families.family import (
    HALF,
    IMAGENET,
    NO_POSITIONS,
    PRE_TRAINING,
    Family,
    Prepared,
    is_swiglu,
    unique_names,
    without_prefix,
)
from vit_keras.weights.families.name_table import (
    CONV,
    PATCH_KERNEL,
    POSITIONS,
    SAME,
    TOKEN,
    Row,
    torch_linear,
    torch_norm,
)


def torch_blocks(theirs, ours):
    """Rows of timm's Block, whose names Facebook's code shares"""
    return (
        *torch_norm(f"{theirs}.norm1", f"{ours}/norm1"),
        *torch_linear(f"{theirs}.attn.qkv", f"{ours}/attention/qkv"),
        *torch_norm(f"{theirs}.attn.q_norm", f"{ours}/attention/query_norm"),
        *torch_norm(f"{theirs}.attn.k_norm", f"{ours}/attention/key_norm"),
        *torch_linear(f"{theirs}.attn.proj", f"{ours}/attention/projection"),
        Row(f"{theirs}.ls1.gamma", f"{ours}/scale1", SAME),
        *torch_norm(f"{theirs}.norm2", f"{ours}/norm2"),
        *torch_linear(f"{theirs}.mlp.fc1", f"{ours}/mlp/expand"),
        *torch_linear(f"{theirs}.mlp.fc2", f"{ours}/mlp/reduce"),
        Row(f"{theirs}.ls2.gamma", f"{ours}/scale2", SAME),
    )


ROWS = (
    Row("cls_token", "patch_encoder/cls", TOKEN),
    Row("dist_token", "patch_encoder/dist", TOKEN),
    Row("reg_token", "patch_encoder/registers", TOKEN),
    Row("pos_embed", POSITIONS, TOKEN),
    Row("patch_embed.proj.weight", PATCH_KERNEL, CONV),
    Row("patch_embed.proj.bias", "patch_encoder/projection/bias", SAME),
    *torch_norm("norm_pre", "pre_norm"),
    *torch_blocks("blocks.{}", "block_{}"),
    *torch_norm("norm", "norm"),
    *torch_norm("fc_norm", "norm"),
    Row("attn_pool.latent", "pool/probe", TOKEN),
    *torch_linear("attn_pool.q", "pool/query"),
    *torch_linear("attn_pool.kv", "pool/key_value"),
    *torch_linear("attn_pool.proj", "pool/projection"),
    *torch_norm("attn_pool.norm", "pool/norm"),
    *torch_linear("attn_pool.mlp.fc1", "pool/mlp/expand"),
    *torch_linear("attn_pool.mlp.fc2", "pool/mlp/reduce"),
    *torch_linear("pre_logits.fc", "pre_logits"),
    *torch_linear("head", "head"),
    *torch_linear("head_dist", "head_dist"),
)

PATCH = "patch_embed.proj.weight"
CLIP = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
# What arrays do not tell of architectures in timm 1.0.31's vision_transformer.py, by how their
# names begin.
_ARCHITECTURES: dict[str, dict] = {
    "vit_base_patch32_siglip": {"gelu": "tanh"},
    "vit_large_patch16_siglip_512": {"gelu": "tanh"},
    "vit_large_patch16_siglip_gap_512": {"gelu": "tanh"},
    "vit_so400m_patch16_siglip": {"gelu": "tanh"},
    "vit_giantopt_patch16_siglip": {"gelu": "tanh", "heads": 16},
    "vit_base_patch16_gap": {"heads": 16},
    "deit3_": {"prefix_positions": False},
}
# Other models with the same names of arrays: rotary positions, norms behind the branches, ...
_OTHERS = re.compile(
    r"_rope_|_rpn_|vit_pe_|_parallel_|^eva|^beit|^samvit|^naflexvit|_dinov3|^test_vit3"
)
_TOWER = "visual.trunk."
_POOLINGS = {"token": "cls", "avg": "mean", "map": "map"}
_GELUS = {"gelu": "exact", "gelu_tanh": "tanh", "quick_gelu": "quick"}


def settings_of_names(arrays):
    """What the names of timm's and Facebook's arrays tell about a ViTConfig"""
    settings: dict = {}
    if "fc_norm.weight" in arrays:
        settings["norm_after_pooling"] = True
        if "attn_pool.latent" not in arrays:
            settings["pooling"] = "mean"
    query_norm = arrays.get("blocks.0.attn.q_norm.weight")
    if query_norm is not None:
        settings["heads"] = arrays[PATCH].shape[0] // len(query_norm)
    settings["swiglu"] = is_swiglu(arrays, "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight")
    if "pos_embed" not in arrays:
        raise InputError(NO_POSITIONS)
    return settings


def _prepare(checkpoint: Checkpoint) -> Prepared:
    left_out = {}
    arrays = checkpoint.arrays
    if _TOWER + PATCH in arrays:  # OpenCLIP's
        left_out = {
            name: "stands beside the image model" for name in arrays if not name.startswith(_TOWER)
        }
        arrays = {name: array for name, array in arrays.items() if name not in left_out}
    arrays = without_prefix(arrays, PATCH)
    if "mask_token" in arrays:
        left_out["mask_token"] = PRE_TRAINING
        del arrays["mask_token"]
    # The hub's settings: pretrained_cfg, and the arguments in which a model differs from its name.
    published = {**checkpoint.config, **checkpoint.config.get("pretrained_cfg", {})}
    preprocessing = _preprocessing(published, arrays)
    assumed = []
    if "mean" not in published:
        assumed.append(
            f"mean={preprocessing['mean']}, std={preprocessing['std']}, as usual for such models; "
            f"config.json of timm's hub would tell"
        )
    if not checkpoint.config:
        assumed += _doubts(arrays)
    return Prepared(
        arrays,
        {**settings_of_names(arrays), "gelu": "exact", **_settings(checkpoint, published, arrays)},
        preprocessing,
        class_names=unique_names(published.get("label_names") or ()),
        left_out=left_out,
        assumed=tuple(assumed),
    )


def _settings(checkpoint, published, arrays):
    """What config.json, or else a file's name, tells about a ViTConfig"""
    architecture = published.get("architecture", "")
    if _OTHERS.search(architecture):
        raise InputError(f"timm's {architecture} is another model than a plain ViT")
    settings: dict = {"norm_epsilon": 1e-5 if "norm_pre.weight" in arrays else 1e-6}
    for begins, fields in _ARCHITECTURES.items():
        if architecture.startswith(begins):
            settings.update(fields)
    hint = f"{architecture} {checkpoint.path.name} {checkpoint.path.parent.name}"
    # timm marks what was trained with quick-GELU by its tag, if not by its architecture.
    quick = str(published.get("tag", "")).startswith(("openai", "metaclip", "dfn"))
    if "norm_pre.weight" in arrays and ("quickgelu" in hint or quick):
        settings["gelu"] = "quick"
    arguments = checkpoint.config.get("model_args", {})
    if arguments.get("pool_include_prefix"):
        raise InputError("pool_include_prefix=True is not supported")
    tables = {"act_layer": ("gelu", _GELUS), "global_pool": ("pooling", _POOLINGS)}
    for theirs, (ours, table) in tables.items():
        value = arguments.get(theirs, checkpoint.config.get(theirs))
        if value is not None and value not in table:
            raise InputError(f"{theirs}={value!r} is not supported; {', '.join(table)} are")
        if value is not None:
            settings[ours] = table[value]
    if "num_heads" in arguments:
        settings["heads"] = arguments["num_heads"]
    size = arguments.get("img_size") or (published.get("input_size") or [None])[1:]
    if size:
        settings["image_size"] = tuple(size) if isinstance(size, list | tuple) else (size, size)
    return settings


def _doubts(arrays):
    """Sentences about what only config.json would tell"""
    if "norm_pre.weight" in arrays:
        yield "gelu='exact', as timm's CLIP models have it; OpenAI's own need gelu='quick'"
    if "attn_pool.latent" in arrays:
        yield "gelu='exact'; the larger models of SigLIP 2 need gelu='tanh'"
    pools_otherwise = {"fc_norm.weight", "attn_pool.latent"} & set(arrays)
    if "cls_token" in arrays and not pools_otherwise:
        yield "pooling='cls'; pass pooling='mean' for a model that averages its patches"


def _preprocessing(published, arrays):
    if "norm_pre.weight" in arrays:
        usual = CLIP
    elif "dist_token" in arrays or "blocks.0.ls1.gamma" in arrays:
        usual = IMAGENET
    else:
        usual = HALF
    interpolation = published.get("interpolation", "bicubic")
    return {
        "mean": tuple(published.get("mean", usual["mean"])),
        "std": tuple(published.get("std", usual["std"])),
        "crop": published.get("crop_pct", 0.9),
        "resize": "squash" if published.get("crop_mode") == "squash" else "crop",
        "interpolation": interpolation if interpolation == "bilinear" else "bicubic",
    }


TIMM = Family(
    name="timm",
    rows=ROWS,
    recognises=lambda checkpoint: any(name.endswith(PATCH) for name in checkpoint.arrays),
    prepare=_prepare,
    position_resize="bicubic_antialias",
    patch_resize="bicubic_antialias",
)


def timm_settings(model):
    """A model's config.json for timm's hub: the architecture nearest to it, and where it differs"""
    config, preprocessing = model.config, model.preprocessing
    prefix = config.prefix_tokens
    size = [config.channels, *config.image_size]
    architecture = "vit_base_patch16_224"
    if config.pre_norm:
        architecture = "vit_base_patch16_clip_224"  # the one with epsilon 1e-5
    if config.block.swiglu:
        architecture = "vit_giant_patch14_dinov2"
    if config.distilled:
        architecture = "deit_base_distilled_patch16_224"
    pool = {ours: theirs for theirs, ours in _POOLINGS.items()}[config.pooling]
    arguments = {
        "img_size": list(config.image_size),
        "patch_size": config.patch_size,
        "in_chans": config.channels,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.block.heads,
        # timm multiplies and cuts off: half a unit more keeps it from losing one.
        "mlp_ratio": (config.block.mlp_width * (2 if config.block.swiglu else 1) + 0.5)
        / config.width,
        "qkv_bias": config.block.qkv_bias,
        "qk_norm": config.block.qk_norm,
        "init_values": config.block.layer_scale or None,
        "class_token": "cls" in prefix,
        "reg_tokens": config.registers,
        "no_embed_class": not config.prefix_positions,
        "global_pool": pool,
        "fc_norm": config.norm_after_pooling,
    }
    if not config.block.swiglu:
        arguments["act_layer"] = {ours: theirs for theirs, ours in _GELUS.items()}[
            config.block.gelu
        ]
    return {
        "architecture": architecture,
        "num_classes": config.num_classes,
        "num_features": config.width,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": size,
            "num_classes": config.num_classes,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop,
            "crop_mode": "squash" if preprocessing.resize == "squash" else "center",
            **({"label_names": list(model.class_names)} if model.class_names else {}),
        },
    }
