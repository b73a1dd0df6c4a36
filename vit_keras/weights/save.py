"""A model -> a weights file that another project's code reads."""

import json
import logging
import os
import pathlib

import numpy as np

from vit_keras.config import ViTConfig
from vit_keras.layers.positions import sincos2d
from vit_keras.model import ViT, get_config
from vit_keras.utils.checks import check_choice
from vit_keras.utils.errors import InputError
from vit_keras.utils.files import replacing
from vit_keras.weights.checkpoint import shorten
from vit_keras.weights.families.google import GOOGLE
from vit_keras.weights.families.huggingface import HUGGINGFACE
from vit_keras.weights.families.huggingface_settings import huggingface_settings
from vit_keras.weights.families.name_table import POSITIONS, Shape, to_source
from vit_keras.weights.families.timm import TIMM
from vit_keras.weights.families.timm_settings import timm_settings
from vit_keras.weights.read import arrays_of

logger = logging.getLogger("vit_keras")

# The values with which a format's readers compute for fields that its files do not contain.
_FIXED_FIELDS: dict[str, dict] = {
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
# Fields that a reader can pass as an argument: another value is a warning, not an error.
_READER_ARGUMENTS = ("gelu", "norm_epsilon", "merge_tokens")


def save_weights(model: ViT, path: str | os.PathLike, format: str) -> None:
    """Writes a model's weights in the names and layout of another project.

    Args:
        model: made by `vit_keras.build_vit` or `from_weights`.
        path: a file ending in .npz for "google". For "timm" and "huggingface" a file ending in
            .safetensors, or a folder for the weights and their settings, which
            `timm.create_model("local-dir:FOLDER")` and transformers' `from_pretrained(FOLDER)`
            read.
        format: "google" (vision_transformer's published names), "timm" or "huggingface" (ViT, or
            DeiT with a distillation token).

    Raises:
        InputError: for a model that the format has no place for, and an unknown format.
    """
    check_choice("format", format, tuple(FORMATS))
    config = get_config(model)
    if type(model) is not ViT:
        raise InputError(f"only classifiers and their features are written. Got {model!r}.")
    _check_fixed_fields(config, format)
    FORMATS[format](model, pathlib.Path(path))


def _check_fixed_fields(config: ViTConfig, format: str) -> None:
    """Checks the fields that the format's files do not contain; warns of those to be passed.

    Raises:
        InputError: if the format's readers compute with another value.
    """
    fixed_fields = {"merge_tokens": 0, **_FIXED_FIELDS[format]}
    if format == "timm":
        fixed_fields["norm_epsilon"] = 1e-5 if config.pre_norm else 1e-6
    if format == "google" and config.pooling != "cls":
        fixed_fields["cls_token"] = False
        config = config.replace(cls_token="cls" in config.prefix_tokens)
    for field, fixed in fixed_fields.items():
        value = config.to_fields()[field]
        if value == fixed:
            continue
        if field not in _READER_ARGUMENTS:
            raise InputError(
                f"{format} files have no place for {field}={value!r}; their readers compute with "
                f"{fixed!r}."
            )
        logger.warning(
            "%s files do not contain %s: their readers compute with %r, unless %r is passed.",
            format,
            field,
            fixed,
            value,
        )


def _save_google(model, path):
    if path.suffix != ".npz":
        raise InputError(f"google's weights are .npz files. Got {path}.")
    arrays = _source_arrays(model, GOOGLE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def _save_timm(model, path):
    arrays = _source_arrays(model, TIMM)
    unwanted = "norm." if model.config.norm_after_pooling else "fc_norm."
    arrays = {name: array for name, array in arrays.items() if not name.startswith(unwanted)}
    _save_safetensors(arrays, path, {"config.json": timm_settings(model)})


def _save_huggingface(model, path):
    arrays = _source_arrays(model, HUGGINGFACE)
    config = model.config
    if config.head_width and config.num_classes:
        raise InputError("huggingface files have no place for both head_width and a classifier.")
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


def _source_arrays(model, family):
    """The model's weights under the family's source names.

    Raises:
        InputError: for weights that the family has no name for.
    """
    config: ViTConfig = model.config
    arrays = arrays_of(model)
    if config.positions == "sincos2d":  # other formats have no fixed positions: written as learned
        rows, columns = config.grid
        prefix = np.zeros((config.prefix_count, config.width), "float32")
        table = np.concatenate([prefix, sincos2d(rows, columns, config.width)])
        arrays[POSITIONS] = table[np.newaxis]
    elif not config.prefix_positions and family is not TIMM:  # others have rows for all tokens
        prefix = np.zeros((1, config.prefix_count, config.width), "float32")
        arrays[POSITIONS] = np.concatenate([prefix, arrays[POSITIONS]], axis=1)
    shape = Shape(config.block.heads, config.patch_size, config.channels)
    source_arrays, unknown = to_source(family.rows, arrays, shape)
    if unknown:
        raise InputError(f"{family.name} files have no place for {shorten(unknown)} of this model.")
    return source_arrays


def _save_safetensors(arrays, path, settings):
    """Writes one file, or a folder with the weights and the settings, {file name: contents}."""
    from safetensors.numpy import save_file

    metadata = {"format": "pt"}  # transformers requires it
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata)
        return
    if path.suffix in (".npz", ".pth", ".pt", ".bin", ".h5", ".keras"):
        raise InputError(f"these weights are a folder or a .safetensors file. Got {path}.")
    if path.exists():
        raise InputError(f"{path} exists; name a folder that does not, or a .safetensors file.")
    with replacing(path) as folder:
        folder.mkdir()
        save_file(arrays, folder / "model.safetensors", metadata)
        for name, contents in settings.items():
            text = json.dumps(contents, indent=2, ensure_ascii=False) + "\n"
            (folder / name).write_text(text, encoding="utf-8")


FORMATS = {"google": _save_google, "timm": _save_timm, "huggingface": _save_huggingface}
