"""Hugging Face's folders and files: ViT, DeiT, ViTMAE, masked image modelling, DINOv2."""

from vit_keras.utils.errors import InputError
from vit_keras.weights.checkpoint import Checkpoint
from vit_keras.weights.families.family import (
    HALF,
    IMAGENET,
    NO_POSITIONS,
    PRE_TRAINING,
    Family,
    Prepared,
    fold_cls_position,
    is_swiglu,
    renamed,
    unique_names,
    without_prefix,
)
from vit_keras.weights.families.name_table import (
    CONV,
    PATCH_KERNEL,
    POSITIONS,
    SAME,
    SHUFFLED_BIAS,
    SHUFFLED_KERNEL,
    TOKEN,
    Row,
    torch_linear,
    torch_norm,
)


def _blocks(theirs, ours):
    attention = f"{theirs}.attention.attention"
    return (
        *torch_norm(f"{theirs}.layernorm_before", f"{ours}/norm1"),
        *torch_linear(f"{attention}.query", f"{ours}/attention/qkv", 0, 3),
        *torch_linear(f"{attention}.key", f"{ours}/attention/qkv", 1, 3),
        *torch_linear(f"{attention}.value", f"{ours}/attention/qkv", 2, 3),
        *torch_linear(f"{theirs}.attention.output.dense", f"{ours}/attention/projection"),
        Row(f"{theirs}.layer_scale1.lambda1", f"{ours}/scale1", SAME),
        *torch_norm(f"{theirs}.layernorm_after", f"{ours}/norm2"),
        *torch_linear(f"{theirs}.intermediate.dense", f"{ours}/mlp/expand"),
        *torch_linear(f"{theirs}.output.dense", f"{ours}/mlp/reduce"),
        Row(f"{theirs}.layer_scale2.lambda1", f"{ours}/scale2", SAME),
    )


# Without the model's prefix ("vit.", "deit.", "dinov2.") and with the names of files on the hub.
ROWS = (
    Row("embeddings.cls_token", "patch_encoder/cls", TOKEN),
    Row("embeddings.distillation_token", "patch_encoder/dist", TOKEN),
    Row("embeddings.register_tokens", "patch_encoder/registers", TOKEN),
    Row("embeddings.mask_token", "patch_encoder/mask", TOKEN),
    Row("embeddings.position_embeddings", POSITIONS, TOKEN),
    Row("embeddings.patch_embeddings.projection.weight", PATCH_KERNEL, CONV),
    Row("embeddings.patch_embeddings.projection.bias", "patch_encoder/projection/bias", SAME),
    *_blocks("encoder.layer.{}", "block_{}"),
    *torch_norm("layernorm", "norm"),
    *torch_linear("pooler.dense", "pre_logits"),
    *torch_linear("classifier", "head"),
    *torch_linear("cls_classifier", "head"),
    *torch_linear("distillation_classifier", "head_dist"),
    # ViTMAE's decoder.
    Row("decoder.mask_token", "fill_in/mask", TOKEN),
    Row("decoder.decoder_pos_embed", "fill_in/positions", TOKEN),
    *torch_linear("decoder.decoder_embed", "decoder_embed"),
    *_blocks("decoder.decoder_layers.{}", "decoder_block_{}"),
    *torch_norm("decoder.decoder_norm", "decoder_norm"),
    *torch_linear("decoder.decoder_pred", "decoder_prediction"),
    # ViTForMaskedImageModeling's.
    Row("decoder.0.weight", "reconstruction/kernel", SHUFFLED_KERNEL),
    Row("decoder.0.bias", "reconstruction/bias", SHUFFLED_BIAS),
)

_MLP = "encoder.layer.0"
_PATCH = "embeddings.patch_embeddings.projection.weight"
# Names since transformers 5, and DINOv2's -> those above.
_RENAMES = (
    (r"^layers\.(\d+)\.", r"encoder.layer.\1."),
    (r"^decoder\.(layers|decoder_encoder\.layer)\.(\d+)\.", r"decoder.decoder_layers.\2."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.(fc1|weights_in)\.", ".intermediate.dense."),
    (r"\.mlp\.(fc2|weights_out)\.", ".output.dense."),
    (r"(layer\.\d+\.)norm1\.", r"\1layernorm_before."),
    (r"(layer\.\d+\.)norm2\.", r"\1layernorm_after."),
    (r"(layer_scale[12])\.scale$", r"\1.lambda1"),
)
_GELUS = {
    **dict.fromkeys(("gelu", "gelu_python"), "exact"),
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh"), "tanh"),
    **dict.fromkeys(("gelu_fast", "gelu_accurate"), "tanh"),
    "quick_gelu": "quick",
}
_BICUBIC = 3  # PIL.Image.Resampling
_DECODER = (
    ("heads", "decoder_num_attention_heads"),
    ("mask_ratio", "mask_ratio"),
    ("normalised", "norm_pix_loss"),
)


def _prepare(checkpoint: Checkpoint) -> Prepared:
    theirs = checkpoint.config
    arrays = renamed(without_prefix(checkpoint.arrays, _PATCH), _RENAMES)
    left_out = {}
    if "embeddings.mask_token" in arrays and "decoder.0.weight" not in arrays:
        left_out["embeddings.mask_token"] = PRE_TRAINING
        del arrays["embeddings.mask_token"]
    if {"classifier.weight", "cls_classifier.weight"} & set(arrays):
        for name in [name for name in arrays if name.startswith("pooler.")]:
            left_out[name] = "is not read by the classifier"
            del arrays[name]
    if "embeddings.position_embeddings" not in arrays:
        raise InputError(NO_POSITIONS)
    registers = "embeddings.register_tokens" in arrays
    if registers:
        fold_cls_position(arrays, "embeddings.cls_token", "embeddings.position_embeddings")
    assumed = []
    swiglu = is_swiglu(arrays, f"{_MLP}.intermediate.dense.weight", f"{_MLP}.output.dense.weight")
    dino = "encoder.layer.0.layer_scale1.lambda1" in arrays
    if not theirs:
        assumed.append(
            f"norm_epsilon={1e-6 if dino else 1e-12}, gelu='exact', as usual for such models; "
            f"config.json would tell"
        )
    activation = theirs.get("hidden_act", "gelu")
    if activation not in _GELUS and not swiglu:
        raise InputError(f"hidden_act={activation!r} is not supported; {', '.join(_GELUS)} are")
    if "pooler.dense.weight" in arrays and theirs.get("pooler_act", "tanh") != "tanh":
        raise InputError(f"pooler_act={theirs['pooler_act']!r} is not supported; tanh is")
    config = {
        "norm_epsilon": float(theirs.get("layer_norm_eps", 1e-6 if dino else 1e-12)),
        "gelu": _GELUS.get(activation, "exact"),
        "swiglu": swiglu,
        # True of ViT and DeiT; DINOv2's registers have none, and [CLS] now contains its own.
        "prefix_positions": not registers,
    }
    if registers:  # modeling_dinov2_with_registers.py alone antialiases
        config["position_resize"] = "bicubic_antialias"
    for ours, name in (("heads", "num_attention_heads"), ("image_size", "image_size")):
        if name in theirs:
            config[ours] = theirs[name]
    if "embeddings.distillation_token" in arrays and "distillation_classifier.weight" not in arrays:
        # DeiTForImageClassification reads the [CLS] token alone: the other is a register to it.
        arrays["embeddings.register_tokens"] = arrays.pop("embeddings.distillation_token")
    decoder = {ours: theirs[name] for ours, name in _DECODER if name in theirs}
    labels = theirs.get("id2label") or {}
    names = [name for _, name in sorted((int(number), name) for number, name in labels.items())]
    if names == [f"LABEL_{number}" for number in range(len(names))]:
        names = []
    preprocessing = _preprocessing(checkpoint, dino)
    if not checkpoint.preprocessor:
        assumed.append(
            f"mean={preprocessing['mean']}, std={preprocessing['std']}, as usual for such models; "
            f"preprocessor_config.json would tell"
        )
    return Prepared(
        arrays,
        config,
        preprocessing,
        decoder,
        unique_names(names),
        left_out,
        tuple(assumed),
    )


def _preprocessing(checkpoint, dino):
    """preprocessor_config.json, or what the model type's authors use -> keyword arguments"""
    theirs = checkpoint.preprocessor
    usual = IMAGENET if dino or checkpoint.config.get("model_type", "vit") != "vit" else HALF
    # What 255 becomes before the mean is subtracted.
    scale = 255 * (theirs.get("rescale_factor", 1 / 255) if theirs.get("do_rescale", True) else 1)
    mean, std = theirs.get("image_mean") or usual["mean"], theirs.get("image_std") or usual["std"]
    if not theirs.get("do_normalize", True):
        mean, std = [0.0] * len(usual["mean"]), [1.0] * len(usual["std"])
    size = theirs.get("size")
    preprocessing = {
        "mean": tuple(value / scale for value in mean),
        "std": tuple(value / scale for value in std),
        "interpolation": "bicubic" if theirs.get("resample", 2) == _BICUBIC else "bilinear",
        "resize": "crop" if isinstance(size, dict) and "shortest_edge" in size else "squash",
    }
    resized, cropped = _shorter_side(size), _shorter_side(theirs.get("crop_size"))
    if theirs.get("do_center_crop") and resized and cropped:
        preprocessing["crop"] = min(1.0, cropped / resized)
    return preprocessing


def _shorter_side(size):
    if isinstance(size, dict):
        return size.get("shortest_edge") or min(size.get("height", 0), size.get("width", 0))
    return size


HUGGINGFACE = Family(
    name="huggingface",
    rows=ROWS,
    recognises=lambda checkpoint: any(name.endswith(_PATCH) for name in checkpoint.arrays),
    prepare=_prepare,
    position_resize="bicubic",
    patch_resize="bicubic_antialias",
)


def huggingface_settings(model):
    """A model's config.json and preprocessor_config.json, {file name: contents}"""
    config, preprocessing = model.config, model.preprocessing
    kind, type_ = ("DeiT", "deit") if config.distilled else ("ViT", "vit")
    task = "Model"
    if config.num_classes:
        task = "ForImageClassificationWithTeacher" if config.distilled else "ForImageClassification"
    labels = model.class_names or [f"LABEL_{number}" for number in range(config.num_classes)]
    height, width = config.image_size
    # The image size from which the crop is cut, when there is one.
    resized = [round(side / preprocessing.crop) for side in (height, width)]
    crops = preprocessing.resize == "crop"
    pixels = {"height": height, "width": width}
    return {
        "config.json": {
            "architectures": [kind + task],
            "model_type": type_,
            "hidden_size": config.width,
            "num_hidden_layers": config.depth,
            "num_attention_heads": config.block.heads,
            "intermediate_size": config.block.mlp_width,
            "hidden_act": {
                "exact": "gelu",
                "tanh": "gelu_pytorch_tanh",
                "quick": "quick_gelu",
            }[config.block.gelu],
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
        },
        "preprocessor_config.json": {
            # ViT's own did not crop before transformers 5.
            "image_processor_type": "CLIPImageProcessor" if crops else "ViTImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": min(resized)} if crops else pixels,
            "do_center_crop": crops,
            "crop_size": pixels,
            "resample": _BICUBIC if preprocessing.interpolation == "bicubic" else 2,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(preprocessing.mean),
            "image_std": list(preprocessing.std),
        },
    }
