"""A model -> a weights file that other people's code reads."""

import json
import logging
import pathlib

import numpy as np

from vit_keras.config import ViTConfig
from vit_keras.layers.positions import sincos2d
from vit_keras.model import ViT, get_config
from vit_keras.utils.checks import check_choice
from vit_keras.utils.errors import InputError
from vit_keras.utils.files import replacing
from vit_keras.weights.checkpoint import shortened
from vit_keras.weights.families.google import GOOGLE
from vit_keras.weights.families.huggingface import HUGGINGFACE, huggingface_settings
from vit_keras.weights.families.name_table import POSITIONS, Shape, to_theirs
from vit_keras.weights.families.timm import TIMM, timm_settings
from vit_keras.weights.read import weights_of

logger = logging.getLogger("vit_keras")

# What the readers of a format compute whatever the file says, field by field of ViTConfig.
_ALWAYS: dict[str, dict] = {
    "google": {
        "gelu": "tanh",
        "norm_epsilon": 1e-6,
        "norm_after_pooling": False,
        "qkv_bias": True,
        "swiglu": False,
    },
    "timm": {"head_width": 0},
    "huggingface": {
        "pooling": "cls",
        "norm_after_pooling": False,
        "registers": 0,
        "layer_scale": 0.0,
        "swiglu": False,
    },
}
# What a reader can be told: worth a warning, not an error.
_TOLD = ("gelu", "norm_epsilon", "merge_tokens")


def save_weights(model, path, format):
    """Writes a model's weights in the names and layout of another project.

    Args:
        model: made by `vit_keras.build_vit` or `from_weights`.
        path: a file ending in .npz for "google". For "timm" and "huggingface" a file ending in
            .safetensors, or a folder for the weights and the settings beside them, which
            `timm.create_model("local-dir:FOLDER")` and transformers' `from_pretrained(FOLDER)`
            take as it is.
        format: "google" (vision_transformer's published names), "timm" or "huggingface" (ViT, or
            DeiT with a teacher's token).

    Raises:
        InputError: for a model that the format has no place for, and an unknown format.
    """
    check_choice("format", format, tuple(FORMATS))
    config = get_config(model)
    if type(model) is not ViT:
        raise InputError(f"only classifiers and their features are written. Got {model!r}.")
    always_read = {"merge_tokens": 0, **_ALWAYS[format]}
    if format == "timm":
        always_read["norm_epsilon"] = 1e-5 if config.pre_norm else 1e-6
    if format == "google" and config.pooling != "cls":
        always_read["cls_token"] = False
        config = config.replace(cls_token="cls" in config.prefix_tokens)
    for field, always in always_read.items():
        own = config.to_fields()[field]
        if own == always:
            continue
        if field not in _TOLD:
            raise InputError(
                f"{format} files have no place for {field}={own!r}; their readers compute with "
                f"{always!r}."
            )
        logger.warning(
            "%s files do not tell %s: their readers compute with %r unless told %r.",
            format, field, always, own,
        )  # fmt: skip
    FORMATS[format](model, pathlib.Path(path))


def _save_google(model, path):
    if path.suffix != ".npz":
        raise InputError(f"google's weights are .npz files. Got {path}.")
    arrays = _theirs(model, GOOGLE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def _save_timm(model, path):
    arrays = _theirs(model, TIMM)
    unwanted = "norm." if model.config.norm_after_pooling else "fc_norm."
    arrays = {name: array for name, array in arrays.items() if not name.startswith(unwanted)}
    _save_safetensors(arrays, path, {"config.json": timm_settings(model)})


def _save_huggingface(model, path):
    arrays = _theirs(model, HUGGINGFACE)
    config = model.config
    if config.head_width and config.num_classes:
        raise InputError("huggingface files have no place for head_width beside a classifier.")
    if config.distilled and not config.num_classes:
        raise InputError("huggingface files have no place for the mean of two tokens.")
    prefix = "deit." if config.distilled else "vit."
    heads = ("cls_classifier", "distillation_classifier") if config.distilled else ("classifier",)
    named = {}
    for name, array in arrays.items():
        if not name.startswith(("cls_classifier", "classifier", "distillation_classifier")):
            named[prefix + name if config.num_classes else name] = array
        elif name.startswith(heads):
            named[name] = array
    _save_safetensors(named, path, huggingface_settings(model))


def _theirs(model, family):
    """The model's weights under the family's names

    Raises:
        InputError: for weights that have none.
    """
    config: ViTConfig = model.config
    ours = weights_of(model)
    if config.positions == "sincos2d":  # in no other format fixed: written out
        rows, columns = config.grid
        prefix = np.zeros((config.prefix_count, config.width), "float32")
        table = np.concatenate([prefix, sincos2d(rows, columns, config.width)])
        ours[POSITIONS] = table[np.newaxis]
    elif not config.prefix_positions and family is not TIMM:  # the others have them always
        prefix = np.zeros((1, config.prefix_count, config.width), "float32")
        ours[POSITIONS] = np.concatenate([prefix, ours[POSITIONS]], axis=1)
    shape = Shape(config.block.heads, config.patch_size, config.channels)
    theirs, unknown = to_theirs(family.rows, ours, shape)
    if unknown:
        raise InputError(
            f"{family.name} files have no place for {shortened(unknown)} of this model."
        )
    return theirs


def _save_safetensors(arrays, path, settings):
    """Writes one file, or a folder with the settings, {file name: contents}, beside the weights"""
    from safetensors.numpy import save_file

    metadata = {"format": "pt"}  # transformers asks for it
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata)
        return
    if path.suffix in (".npz", ".pth", ".pt", ".bin", ".h5", ".keras"):
        raise InputError(f"these weights are a folder, or a .safetensors file. Got {path}.")
    if path.exists():
        raise InputError(f"{path} exists; name a folder that does not, or a .safetensors file.")
    with replacing(path) as folder:
        folder.mkdir()
        save_file(arrays, folder / "model.safetensors", metadata)
        for name, contents in settings.items():
            text = json.dumps(contents, indent=2, ensure_ascii=False) + "\n"
            (folder / name).write_text(text, encoding="utf-8")


FORMATS = {"google": _save_google, "timm": _save_timm, "huggingface": _save_huggingface}
