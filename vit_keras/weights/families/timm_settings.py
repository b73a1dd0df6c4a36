"""A model -> config.json of timm's hub."""

from vit_keras.model import ViT
from vit_keras.weights.families.timm import CROP_MODES, GELUS, POOLINGS


def timm_settings(model: ViT) -> dict:
    """A model's config.json for timm's hub: the nearest architecture, and how the model differs."""
    config = model.config
    arguments = _arguments(config)
    return {
        "architecture": _nearest_architecture(config),
        "num_classes": config.num_classes,
        "num_features": config.width,
        "global_pool": arguments["global_pool"],
        "model_args": arguments,
        "pretrained_cfg": _pretrained_cfg(model),
    }


def _nearest_architecture(config):
    if config.distilled:
        return "deit_base_distilled_patch16_224"
    if config.block.swiglu:
        return "vit_giant_patch14_dinov2"
    if config.pre_norm:
        return "vit_base_patch16_clip_224"  # the one with epsilon 1e-5
    return "vit_base_patch16_224"


def _arguments(config):
    """Arguments of timm's VisionTransformer."""
    block = config.block
    mlp_units = block.mlp_width * (2 if block.swiglu else 1)
    arguments = {
        "img_size": list(config.image_size),
        "patch_size": config.patch_size,
        "in_chans": config.channels,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": block.heads,
        # timm multiplies and rounds down: half a unit more keeps every unit.
        "mlp_ratio": (mlp_units + 0.5) / config.width,
        "qkv_bias": block.qkv_bias,
        "qk_norm": block.qk_norm,
        "init_values": block.layer_scale or None,
        "class_token": "cls" in config.prefix_tokens,
        "reg_tokens": config.registers,
        "no_embed_class": not config.prefix_positions,
        "global_pool": {pooling: name for name, pooling in POOLINGS.items()}[config.pooling],
        "fc_norm": config.norm_after_pooling,
    }
    if not block.swiglu:
        arguments["act_layer"] = {gelu: name for name, gelu in GELUS.items()}[block.gelu]
    return arguments


def _pretrained_cfg(model):
    """The preprocessing and the classes, in timm's terms."""
    config, preprocessing = model.config, model.preprocessing
    settings = {
        "input_size": [config.channels, *config.image_size],
        "num_classes": config.num_classes,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop,
        "crop_mode": {rule: mode for mode, rule in CROP_MODES.items()}[preprocessing.resize],
    }
    if model.class_names:
        settings["label_names"] = list(model.class_names)
    return settings
