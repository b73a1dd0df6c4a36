"""A model -> the settings files of Hugging Face's ViT or DeiT."""

from vit_keras.model import ViT
from vit_keras.utils.errors import InputError
from vit_keras.weights.families.huggingface import BICUBIC, BILINEAR

_GELU_NAMES = {"exact": "gelu", "tanh": "gelu_pytorch_tanh", "quick": "quick_gelu"}


def huggingface_settings(model: ViT) -> dict[str, dict]:
    """A model's config.json and preprocessor_config.json, {file name: contents}."""
    return {
        "config.json": _config(model),
        "preprocessor_config.json": _preprocessor_config(model.preprocessing),
    }


def _config(model):
    config = model.config
    kind, model_type = ("DeiT", "deit") if config.distilled else ("ViT", "vit")
    task = "Model"
    if config.num_classes:
        task = "ForImageClassificationWithTeacher" if config.distilled else "ForImageClassification"
    labels = model.class_names or [f"LABEL_{number}" for number in range(config.num_classes)]
    height, width = config.image_size
    return {
        "architectures": [kind + task],
        "model_type": model_type,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.block.heads,
        "intermediate_size": config.block.mlp_width,
        "hidden_act": _GELU_NAMES[config.block.gelu],
        "layer_norm_eps": config.block.norm_epsilon,
        "image_size": height if height == width else [height, width],
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "qkv_bias": config.block.qkv_bias,
        "hidden_dropout_prob": config.block.dropout,
        "attention_probs_dropout_prob": config.block.attention_dropout,
        "pooler_output_size": config.head_width or config.width,
        "pooler_act": "tanh",
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def _preprocessor_config(preprocessing):
    if preprocessing.resize == "pad":
        raise InputError(
            "Hugging Face's ViT has no preprocessing with resize='pad'. Save the weights with "
            "format='timm'."
        )
    height, width = preprocessing.image_size
    # The image size before a crop.
    resized = [round(side / preprocessing.crop) for side in (height, width)]
    crops = preprocessing.resize == "crop"
    pixels = {"height": height, "width": width}
    return {
        # ViT's own processor does not crop before transformers 5.
        "image_processor_type": "CLIPImageProcessor" if crops else "ViTImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": min(resized)} if crops else pixels,
        "do_center_crop": crops,
        "crop_size": pixels,
        "resample": BICUBIC if preprocessing.interpolation == "bicubic" else BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
