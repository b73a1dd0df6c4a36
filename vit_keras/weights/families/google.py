"""Google's .npz files: vision_transformer's and big_vision's."""

from vit_keras.utils.errors import InputError
from vit_keras.weights.checkpoint import Checkpoint
from vit_keras.weights.families.family import HALF, Family, PreparedCheckpoint, rename
from vit_keras.weights.families.name_table import (
    FLAX_DENSE,
    FLAX_GROUP_NORM,
    FLAX_HEADS_IN_DENSE,
    FLAX_HEADS_OUT_DENSE,
    FLAX_NORM,
    IMAGE_KERNEL,
    PATCH_KERNEL,
    POSITIONS,
    TOKENS,
    VECTOR,
    Row,
    check_ranks,
    layer_rows,
)

_BLOCK = "Transformer/encoderblock_{}/"
_ATTENTION = f"{_BLOCK}MultiHeadDotProductAttention_1/"
_MAP_ATTENTION = "MAPHead_0/MultiHeadDotProductAttention_0/"

ROWS = (
    Row("cls", "patch_encoder/cls", TOKENS),
    Row("Transformer/posembed_input/pos_embedding", POSITIONS, TOKENS),
    Row("embedding/kernel", PATCH_KERNEL, IMAGE_KERNEL),
    Row("embedding/bias", "patch_encoder/projection/bias", VECTOR),
    *layer_rows(FLAX_NORM, f"{_BLOCK}LayerNorm_0", "block_{}/norm1"),
    *layer_rows(FLAX_HEADS_IN_DENSE, f"{_ATTENTION}query", "block_{}/attention/qkv", 0, 3),
    *layer_rows(FLAX_HEADS_IN_DENSE, f"{_ATTENTION}key", "block_{}/attention/qkv", 1, 3),
    *layer_rows(FLAX_HEADS_IN_DENSE, f"{_ATTENTION}value", "block_{}/attention/qkv", 2, 3),
    *layer_rows(FLAX_HEADS_OUT_DENSE, f"{_ATTENTION}out", "block_{}/attention/projection"),
    *layer_rows(FLAX_NORM, f"{_BLOCK}LayerNorm_2", "block_{}/norm2"),
    *layer_rows(FLAX_DENSE, f"{_BLOCK}MlpBlock_3/Dense_0", "block_{}/mlp/expand"),
    *layer_rows(FLAX_DENSE, f"{_BLOCK}MlpBlock_3/Dense_1", "block_{}/mlp/reduce"),
    *layer_rows(FLAX_NORM, "Transformer/encoder_norm", "norm"),
    # The "MAP" head.
    Row("MAPHead_0/probe", "pool/probe", TOKENS),
    *layer_rows(FLAX_HEADS_IN_DENSE, f"{_MAP_ATTENTION}query", "pool/query"),
    *layer_rows(FLAX_HEADS_IN_DENSE, f"{_MAP_ATTENTION}key", "pool/key_value", 0, 2),
    *layer_rows(FLAX_HEADS_IN_DENSE, f"{_MAP_ATTENTION}value", "pool/key_value", 1, 2),
    *layer_rows(FLAX_HEADS_OUT_DENSE, f"{_MAP_ATTENTION}out", "pool/projection"),
    *layer_rows(FLAX_NORM, "MAPHead_0/LayerNorm_0", "pool/norm"),
    *layer_rows(FLAX_DENSE, "MAPHead_0/MlpBlock_0/Dense_0", "pool/mlp/expand"),
    *layer_rows(FLAX_DENSE, "MAPHead_0/MlpBlock_0/Dense_1", "pool/mlp/reduce"),
    *layer_rows(FLAX_DENSE, "pre_logits", "pre_logits"),
    *layer_rows(FLAX_DENSE, "head", "head"),
    # The ResNet of hybrids.
    Row("conv_root/kernel", "stem/conv_root/kernel", IMAGE_KERNEL),
    *layer_rows(FLAX_GROUP_NORM, "gn_root", "stem/gn_root"),
    Row("block{}/unit{}/conv{}/kernel", "stem/block{}_unit{}/conv{}/kernel", IMAGE_KERNEL),
    *layer_rows(FLAX_GROUP_NORM, "block{}/unit{}/gn{}", "stem/block{}_unit{}/gn{}"),
    Row("block{}/unit{}/conv_proj/kernel", "stem/block{}_unit{}/conv_proj/kernel", IMAGE_KERNEL),
    *layer_rows(FLAX_GROUP_NORM, "block{}/unit{}/gn_proj", "stem/block{}_unit{}/gn_proj"),
)

_TOP_POSITIONS = "pos_embedding"
_PREFIXES = ("params/img/", "opt/target/", "params/", "")
# A newer Flax numbers each kind of layer separately; big_vision keeps positions at the top.
_RENAMES = (
    (
        r"(encoderblock_\d+/)MultiHead(DotProduct)?Attention_\d+/",
        r"\1MultiHeadDotProductAttention_1/",
    ),
    (r"(encoderblock_\d+/)MlpBlock_\d+/", r"\1MlpBlock_3/"),
    (r"(encoderblock_\d+/)LayerNorm_[12]/", r"\1LayerNorm_2/"),
    (rf"^{_TOP_POSITIONS}$", "Transformer/posembed_input/pos_embedding"),
    (r"(MAPHead_0/)MultiHeadAttention_0/", r"\1MultiHeadDotProductAttention_0/"),
)
_SCANNED = "Transformer/encoderblock/"  # all blocks in one array, on axis 0


def _prefix(arrays):
    return next((p for p in _PREFIXES if f"{p}embedding/kernel" in arrays), None)


def _image_arrays(arrays, prefix):
    """The image model's arrays under the names in ROWS, and {source name: why} of the others."""
    image_arrays, left_out = {}, {}
    for source_name, array in arrays.items():
        name = source_name.removeprefix(prefix)
        if not source_name.startswith(prefix):
            left_out[source_name] = "is not part of the image model"
        elif name.startswith(_SCANNED):
            image_arrays.update(_unstack(name.removeprefix(_SCANNED), array))
        else:
            image_arrays[name] = array
    return rename(image_arrays, _RENAMES), left_out


def _unstack(end, array):
    """One array of all blocks, (blocks, ...) -> {name in one block: array}."""
    if array.ndim < 2:
        raise InputError(
            f"{_SCANNED}{end} must have a first axis for the blocks. Got shape {array.shape}."
        )
    return {f"Transformer/encoderblock_{block}/{end}": part for block, part in enumerate(array)}


def _prepare(checkpoint: Checkpoint) -> PreparedCheckpoint:
    prefix = _prefix(checkpoint.arrays)
    arrays, left_out = _image_arrays(checkpoint.arrays, prefix)
    check_ranks(ROWS, arrays)
    config: dict = {"gelu": "tanh"}
    if f"{prefix}{_TOP_POSITIONS}" in checkpoint.arrays:
        config["prefix_positions"] = False  # big_vision adds them before it puts [CLS] in front
    query = arrays.get(_ATTENTION.format(0) + "query/kernel")
    if query is not None and query.ndim == 3:
        config["heads"] = query.shape[1]
    if "flexivit" in checkpoint.path.name.lower():
        config["position_resize"] = "linear_antialias"
    preprocessing: dict = {**HALF, "resize": "squash"}
    # vision_transformer's input_pipeline.py and SigLIP squash; big_vision's classifiers crop.
    if prefix == "params/" and "MAPHead_0/probe" not in arrays:
        preprocessing = {**HALF, "resize": "crop", "crop": 0.875}
    return PreparedCheckpoint(arrays, config, preprocessing, left_out=left_out)


GOOGLE = Family(
    name="google",
    rows=ROWS,
    recognises=lambda checkpoint: _prefix(checkpoint.arrays) is not None,
    prepare=_prepare,
    position_resize="corners",
    patch_resize="linear",
)
