"""Google's .npz files: vision_transformer's and big_vision's."""

from vit_keras.weights.checkpoint import Checkpoint
from vit_keras.weights.families.family import HALF, Family, Prepared, renamed
from vit_keras.weights.families.name_table import (
    HEADS_BIAS,
    HEADS_KERNEL,
    HEADS_OUT,
    PATCH_KERNEL,
    POSITIONS,
    SAME,
    VECTOR,
    Row,
)

_BLOCK = "Transformer/encoderblock_{}/"
_ATTENTION = f"{_BLOCK}MultiHeadDotProductAttention_1/"


def _dense(theirs, ours):
    return (
        Row(f"{theirs}/kernel", f"{ours}/kernel", SAME),
        Row(f"{theirs}/bias", f"{ours}/bias", SAME),
    )


def _norm(theirs, ours, layout=SAME):
    return (
        Row(f"{theirs}/scale", f"{ours}/gamma", layout),
        Row(f"{theirs}/bias", f"{ours}/beta", layout),
    )


def _heads_in(theirs, ours, part=0, parts=1):
    return (
        Row(f"{theirs}/kernel", f"{ours}/kernel", HEADS_KERNEL, part, parts),
        Row(f"{theirs}/bias", f"{ours}/bias", HEADS_BIAS, part, parts),
    )


def _heads_out(theirs, ours):
    return (
        Row(f"{theirs}/kernel", f"{ours}/kernel", HEADS_OUT),
        Row(f"{theirs}/bias", f"{ours}/bias", SAME),
    )


ROWS = (
    Row("cls", "patch_encoder/cls", SAME),
    Row("Transformer/posembed_input/pos_embedding", POSITIONS, SAME),
    Row("embedding/kernel", PATCH_KERNEL, SAME),
    Row("embedding/bias", "patch_encoder/projection/bias", SAME),
    *_norm(f"{_BLOCK}LayerNorm_0", "block_{}/norm1"),
    *_heads_in(f"{_ATTENTION}query", "block_{}/attention/qkv", 0, 3),
    *_heads_in(f"{_ATTENTION}key", "block_{}/attention/qkv", 1, 3),
    *_heads_in(f"{_ATTENTION}value", "block_{}/attention/qkv", 2, 3),
    *_heads_out(f"{_ATTENTION}out", "block_{}/attention/projection"),
    *_norm(f"{_BLOCK}LayerNorm_2", "block_{}/norm2"),
    *_dense(f"{_BLOCK}MlpBlock_3/Dense_0", "block_{}/mlp/expand"),
    *_dense(f"{_BLOCK}MlpBlock_3/Dense_1", "block_{}/mlp/reduce"),
    *_norm("Transformer/encoder_norm", "norm"),
    # The "MAP" head.
    Row("MAPHead_0/probe", "pool/probe", SAME),
    *_heads_in("MAPHead_0/MultiHeadDotProductAttention_0/query", "pool/query"),
    *_heads_in("MAPHead_0/MultiHeadDotProductAttention_0/key", "pool/key_value", 0, 2),
    *_heads_in("MAPHead_0/MultiHeadDotProductAttention_0/value", "pool/key_value", 1, 2),
    *_heads_out("MAPHead_0/MultiHeadDotProductAttention_0/out", "pool/projection"),
    *_norm("MAPHead_0/LayerNorm_0", "pool/norm"),
    *_dense("MAPHead_0/MlpBlock_0/Dense_0", "pool/mlp/expand"),
    *_dense("MAPHead_0/MlpBlock_0/Dense_1", "pool/mlp/reduce"),
    *_dense("pre_logits", "pre_logits"),
    *_dense("head", "head"),
    # The ResNet of hybrids.
    Row("conv_root/kernel", "stem/conv_root/kernel", SAME),
    *_norm("gn_root", "stem/gn_root", VECTOR),
    Row("block{}/unit{}/conv{}/kernel", "stem/block{}_unit{}/conv{}/kernel", SAME),
    *_norm("block{}/unit{}/gn{}", "stem/block{}_unit{}/gn{}", VECTOR),
    Row("block{}/unit{}/conv_proj/kernel", "stem/block{}_unit{}/conv_proj/kernel", SAME),
    *_norm("block{}/unit{}/gn_proj", "stem/block{}_unit{}/gn_proj", VECTOR),
)

_TOP_POSITIONS = "pos_embedding"
_PREFIXES = ("params/img/", "opt/target/", "params/", "")
# A newer Flax counts each kind of layer for itself; big_vision keeps positions at the top.
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


def _prepare(checkpoint: Checkpoint) -> Prepared:
    prefix = _prefix(checkpoint.arrays)
    arrays, left_out = {}, {}
    for name, array in checkpoint.arrays.items():
        if not name.startswith(prefix):
            left_out[name] = "stands beside the image model"
            continue
        name = name.removeprefix(prefix)
        if name.startswith(_SCANNED):
            rest = name.removeprefix(_SCANNED)
            unstacked = {f"Transformer/encoderblock_{i}/{rest}": a for i, a in enumerate(array)}
        else:
            unstacked = {name: array}
        arrays.update(renamed(unstacked, _RENAMES))
    config: dict = {"gelu": "tanh"}
    if f"{prefix}{_TOP_POSITIONS}" in checkpoint.arrays:
        config["prefix_positions"] = False  # big_vision adds them before it puts [CLS] in front
    query = arrays.get(_ATTENTION.format(0) + "query/kernel")
    if query is not None and query.ndim == 3:
        config["heads"] = query.shape[1]
    flexible = "flexivit" in checkpoint.path.name.lower()
    if flexible:
        config["position_resize"] = "linear_antialias"
    # vision_transformer's input_pipeline.py and SigLIP squash; big_vision's classifiers crop.
    crops = prefix == "params/" and "MAPHead_0/probe" not in arrays
    preprocessing = (
        {**HALF, "resize": "crop", "crop": 0.875} if crops else {**HALF, "resize": "squash"}
    )
    return Prepared(arrays, config, preprocessing, left_out=left_out)


GOOGLE = Family(
    name="google",
    rows=ROWS,
    recognises=lambda checkpoint: _prefix(checkpoint.arrays) is not None,
    prepare=_prepare,
    position_resize="corners",
    patch_resize="linear",
)
