"""Hugging Face's folders and files: ViT, DeiT, ViTMAE, masked image modelling, DINOv2."""

from vit_keras.utils.errors import InputError
from vit_keras.weights.checkpoint import Checkpoint
from vit_keras.weights.families.family import (
    HALF,
    IMAGENET,
    NO_POSITIONS,
    PRE_TRAINING,
    Family,
    PreparedCheckpoint,
    assume,
    fold_cls_position,
    is_swiglu,
    rename,
    unique_names,
    without_prefix,
)
from vit_keras.weights.families.name_table import (
    PATCH_KERNEL,
    POSITIONS,
    SHUFFLED_BIAS,
    SHUFFLED_KERNEL,
    TORCH_IMAGE_KERNEL,
    TORCH_LINEAR,
    TORCH_NORM,
    TORCH_TOKENS,
    VECTOR,
    Row,
    check_ranks,
    layer_rows,
)
from vit_keras.weights.settings import Settings


def _block_rows(source_name, name):
    attention = f"{source_name}.attention.attention"
    projection = f"{source_name}.attention.output.dense"
    return (
        *layer_rows(TORCH_NORM, f"{source_name}.layernorm_before", f"{name}/norm1"),
        *layer_rows(TORCH_LINEAR, f"{attention}.query", f"{name}/attention/qkv", 0, 3),
        *layer_rows(TORCH_LINEAR, f"{attention}.key", f"{name}/attention/qkv", 1, 3),
        *layer_rows(TORCH_LINEAR, f"{attention}.value", f"{name}/attention/qkv", 2, 3),
        *layer_rows(TORCH_LINEAR, projection, f"{name}/attention/projection"),
        Row(f"{source_name}.layer_scale1.lambda1", f"{name}/scale1", VECTOR),
        *layer_rows(TORCH_NORM, f"{source_name}.layernorm_after", f"{name}/norm2"),
        *layer_rows(TORCH_LINEAR, f"{source_name}.intermediate.dense", f"{name}/mlp/expand"),
        *layer_rows(TORCH_LINEAR, f"{source_name}.output.dense", f"{name}/mlp/reduce"),
        Row(f"{source_name}.layer_scale2.lambda1", f"{name}/scale2", VECTOR),
    )


_CLS = "embeddings.cls_token"
_DISTILLATION = "embeddings.distillation_token"
_REGISTERS = "embeddings.register_tokens"
_MASK = "embeddings.mask_token"
_POSITIONS = "embeddings.position_embeddings"
_PATCH = "embeddings.patch_embeddings.projection.weight"

# Without the model's prefix ("vit.", "deit.", "dinov2.") and with the names of files on the hub.
ROWS = (
    Row(_CLS, "patch_encoder/cls", TORCH_TOKENS),
    Row(_DISTILLATION, "patch_encoder/dist", TORCH_TOKENS),
    Row(_REGISTERS, "patch_encoder/registers", TORCH_TOKENS),
    Row(_MASK, "patch_encoder/mask", TORCH_TOKENS),
    Row(_POSITIONS, POSITIONS, TORCH_TOKENS),
    Row(_PATCH, PATCH_KERNEL, TORCH_IMAGE_KERNEL),
    Row("embeddings.patch_embeddings.projection.bias", "patch_encoder/projection/bias", VECTOR),
    *_block_rows("encoder.layer.{}", "block_{}"),
    *layer_rows(TORCH_NORM, "layernorm", "norm"),
    *layer_rows(TORCH_LINEAR, "pooler.dense", "pre_logits"),
    *layer_rows(TORCH_LINEAR, "classifier", "head"),
    *layer_rows(TORCH_LINEAR, "cls_classifier", "head"),
    *layer_rows(TORCH_LINEAR, "distillation_classifier", "head_dist"),
    # ViTMAE's decoder.
    Row("decoder.mask_token", "fill_in/mask", TORCH_TOKENS),
    Row("decoder.decoder_pos_embed", "fill_in/positions", TORCH_TOKENS),
    *layer_rows(TORCH_LINEAR, "decoder.decoder_embed", "decoder_embed"),
    *_block_rows("decoder.decoder_layers.{}", "decoder_block_{}"),
    *layer_rows(TORCH_NORM, "decoder.decoder_norm", "decoder_norm"),
    *layer_rows(TORCH_LINEAR, "decoder.decoder_pred", "decoder_prediction"),
    # ViTForMaskedImageModeling's.
    Row("decoder.0.weight", "reconstruction/kernel", SHUFFLED_KERNEL),
    Row("decoder.0.bias", "reconstruction/bias", SHUFFLED_BIAS),
)

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
    "gelu": "exact",
    "gelu_python": "exact",
    "gelu_new": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "gelu_python_tanh": "tanh",
    "gelu_fast": "tanh",
    "gelu_accurate": "tanh",
    "quick_gelu": "quick",
}
BILINEAR, BICUBIC = 2, 3  # PIL.Image.Resampling


def _prepare(checkpoint: Checkpoint) -> PreparedCheckpoint:
    arrays, left_out = _image_arrays(checkpoint.arrays)
    check_ranks(ROWS, arrays)
    if _POSITIONS not in arrays:
        raise InputError(NO_POSITIONS)
    _check_reconstruction(arrays)
    config, assumptions = _config(checkpoint.config, arrays)
    preprocessing, more_assumptions = _preprocessing(checkpoint, arrays)
    if _REGISTERS in arrays:
        fold_cls_position(arrays, _CLS, _POSITIONS)
    if _DISTILLATION in arrays and "distillation_classifier.weight" not in arrays:
        # DeiTForImageClassification reads the [CLS] token only: the other acts as a register.
        arrays[_REGISTERS] = arrays.pop(_DISTILLATION)
    return PreparedCheckpoint(
        arrays,
        config,
        preprocessing,
        _decoder(checkpoint.config),
        unique_names(_labels(checkpoint.config)),
        left_out,
        assumptions + more_assumptions,
    )


def _image_arrays(arrays):
    """The arrays that the model reads, under the names in ROWS, and {name: why} of the others."""
    arrays = rename(without_prefix(arrays, _PATCH), _RENAMES)
    left_out = {}
    if _MASK in arrays and "decoder.0.weight" not in arrays:
        left_out[_MASK] = PRE_TRAINING
    if {"classifier.weight", "cls_classifier.weight"} & set(arrays):
        for name in arrays:
            if name.startswith("pooler."):
                left_out[name] = "is not read by the classifier"
    return {name: array for name, array in arrays.items() if name not in left_out}, left_out


def _check_reconstruction(arrays):
    """Checks that masked image modelling predicts all values of a patch.

    Raises:
        InputError: if it predicts another number of values.
    """
    _, channels, height, width = arrays[_PATCH].shape
    for name in ("decoder.0.weight", "decoder.0.bias"):
        if name in arrays and len(arrays[name]) != channels * height * width:
            raise InputError(
                f"{name} must predict the {channels}x{height}x{width} values of a patch. "
                f"Got shape {arrays[name].shape}."
            )


def _config(settings: Settings, arrays):
    """Fields of ViTConfig that config.json or the names show, and Assumptions for the others."""
    swiglu = is_swiglu(
        arrays, "encoder.layer.0.intermediate.dense.weight", "encoder.layer.0.output.dense.weight"
    )
    gelu = "exact"
    if not swiglu:
        gelu = settings.choice("hidden_act", _GELUS) or gelu
    if "pooler.dense.weight" in arrays:
        settings.choice("pooler_act", {"tanh": "tanh"})
    config = {
        "norm_epsilon": settings.number("layer_norm_eps", 1e-6 if _is_dino(arrays) else 1e-12),
        "gelu": gelu,
        "swiglu": swiglu,
        # True of ViT and DeiT; DINOv2's registers have none, and [CLS] then contains its own.
        "prefix_positions": _REGISTERS not in arrays,
    }
    if _REGISTERS in arrays:  # only modeling_dinov2_with_registers.py antialiases
        config["position_resize"] = "bicubic_antialias"
    if "num_attention_heads" in settings:
        config["heads"] = settings.integer("num_attention_heads")
    image_size = settings.sides("image_size")
    if image_size is not None:
        config["image_size"] = image_size
    if settings:
        return config, ()
    unspecified = ["norm_epsilon"] if swiglu else ["norm_epsilon", "gelu"]
    return config, assume(
        {field: config[field] for field in unspecified},
        "usual for such models; config.json specifies it",
    )


def _is_dino(arrays):
    return "encoder.layer.0.layer_scale1.lambda1" in arrays


def _decoder(settings):
    """Fields of DecoderConfig in config.json."""
    decoder: dict = {}
    if "decoder_num_attention_heads" in settings:
        decoder["heads"] = settings.integer("decoder_num_attention_heads")
    if "mask_ratio" in settings:
        decoder["mask_ratio"] = settings.number("mask_ratio", 0.75, at_most=1)
    if "norm_pix_loss" in settings:
        decoder["normalised"] = settings.boolean("norm_pix_loss", True)
    return decoder


def _labels(settings):
    """Names of the classes in the order of id2label's numbers; none if they are placeholders."""
    labels = settings.section("id2label").values
    if not all(number.isdecimal() and len(number) < 10 for number in labels):
        settings.refuse("id2label", "an object with whole numbers as keys")
    if not all(isinstance(label, str | int | float) for label in labels.values()):
        settings.refuse("id2label", "an object with class names as values")
    names = [str(labels[number]) for number in sorted(labels, key=int)]
    return [] if names == [f"LABEL_{number}" for number in range(len(names))] else names


def _preprocessing(checkpoint, arrays):
    """Keyword arguments of Preprocessing, and Assumptions about those not specified."""
    settings = checkpoint.preprocessor
    is_vit = checkpoint.config.text("model_type", "vit") == "vit"
    usual = HALF if is_vit and not _is_dino(arrays) else IMAGENET
    # The brightest value at the time the mean is subtracted.
    scale = 255.0
    if settings.boolean("do_rescale", True):
        scale = 255 * settings.number("rescale_factor", 1 / 255)
    mean = settings.numbers("image_mean", usual["mean"])
    std = settings.numbers("image_std", usual["std"])
    unspecified = [
        field
        for field, name in (("mean", "image_mean"), ("std", "image_std"))
        if name not in settings
    ]
    if not settings.boolean("do_normalize", True):
        mean, std, unspecified = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), []
    bicubic = settings.integer("resample", BILINEAR, minimum=0) == BICUBIC
    preprocessing = {
        "mean": tuple(value / scale for value in mean),
        "std": tuple(value / scale for value in std),
        "interpolation": "bicubic" if bicubic else "bilinear",
        **_crop(settings),
    }
    assumptions = assume(
        {field: preprocessing[field] for field in unspecified},
        "usual for such models; preprocessor_config.json specifies it",
    )
    return preprocessing, assumptions


def _crop(settings):
    """How images are resized and cropped: keyword arguments of Preprocessing."""
    size = settings.values.get("size")
    resized, cropped = _shorter_side(settings, "size"), _shorter_side(settings, "crop_size")
    resize = "crop" if isinstance(size, dict) and "shortest_edge" in size else "squash"
    if settings.boolean("do_center_crop", False) and resized and cropped:
        return {"resize": resize, "crop": min(1.0, cropped / resized)}
    return {"resize": resize}


def _shorter_side(settings, name):
    """Pixels of the shorter side of a size; None if the file does not have it."""
    if isinstance(settings.values.get(name), dict):
        size = settings.section(name)
        sides = (size.integer("height"), size.integer("width"))
        return size.integer("shortest_edge") or (None if None in sides else min(sides))
    sides = settings.sides(name)
    return min(sides) if isinstance(sides, tuple) else sides


HUGGINGFACE = Family(
    name="huggingface",
    rows=ROWS,
    recognises=lambda checkpoint: any(name.endswith(_PATCH) for name in checkpoint.arrays),
    prepare=_prepare,
    position_resize="bicubic",
    patch_resize="bicubic_antialias",
)
