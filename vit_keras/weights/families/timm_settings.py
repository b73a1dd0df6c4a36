"""A model -> config.json of timm's hub."""

from vit_keras.model import ViT
from vit_keras.utils.checks import as_image_size
from vit_keras.weights.families.timm import GELUS, POOLINGS


def timm_settings(model: ViT) -> dict:
    """A model's config.json for timm's hub: the nearest architecture, and how the model differs."""
    config, preprocessing = model.config, model.preprocessing
    prefix = config.prefix_tokens
    image_size = list(as_image_size(config.image_size))
    architecture = "vit_base_patch16_224"
    if config.pre_norm:
        architecture = "vit_base_patch16_clip_224"  # the one with epsilon 1e-5
    if config.block.swiglu:
        architecture = "vit_giant_patch14_dinov2"
    if config.distilled:
        architecture = "deit_base_distilled_patch16_224"
    pool = {pooling: name for name, pooling in POOLINGS.items()}[config.pooling]
    arguments = {
        "img_size": image_size,
        "patch_size": config.patch_size,
        "in_chans": config.channels,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.block.heads,
        # timm multiplies and rounds down: half a unit more keeps every unit.
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
        arguments["act_layer"] = {gelu: name for name, gelu in GELUS.items()}[config.block.gelu]
    return {
        "architecture": architecture,
        "num_classes": config.num_classes,
        "num_features": config.width,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [config.channels, *image_size],
            "num_classes": config.num_classes,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop,
            "crop_mode": "squash" if preprocessing.resize == "squash" else "center",
            **({"label_names": list(model.class_names)} if model.class_names else {}),
        },
    }
