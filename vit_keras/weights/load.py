"""Weights from anywhere -> a Keras model that computes what the original computes."""

import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from vit_keras.config import ViTConfig, check_fields
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.model import HEADS, ViT, build_vit, get_config
from vit_keras.tasks.masked import build_mae, build_mim
from vit_keras.utils.checks import check_integer
from vit_keras.utils.errors import InputError
from vit_keras.variants import resolve_config
from vit_keras.weights.assign import LoadReport, assign
from vit_keras.weights.assumption import describe, without_fields
from vit_keras.weights.checkpoint import shorten
from vit_keras.weights.families.family import assume
from vit_keras.weights.read import Weights, read_weights

logger = logging.getLogger("vit_keras")

# Fields that change what a model computes and not the shapes of its weights.
_COMPARED = ("heads", "gelu", "norm_epsilon", "pooling", "norm_after_pooling", "merge_tokens")


def from_weights(
    source: str | os.PathLike | ViT,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    *,
    weights_image_size: int | tuple[int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Iterable[str] = (),
    sha256: str | None = None,
    name: str | None = None,
    **overrides: Any,
) -> ViT:
    """Builds the model that a checkpoint's names, shapes and settings specify, with its weights.

    Args:
        source: a path, an https:// address, hf://owner/name[@revision], or a row of
            `vit_keras.PUBLISHED`. Google's and big_vision's .npz; timm's, Hugging Face's and
            Facebook's files and folders; a .keras file of this project; or a ViT.
        num_classes: another number than the checkpoint's replaces its head by a new one of zeros
            (arXiv:2010.11929, section 3.2), to be trained; None keeps the head. 0 gives features,
            the pooled token.
        image_size: pixels, an int or (height, width); positions are resized as the checkpoint's
            family does it. None keeps the checkpoint's.
        weights_image_size: image size of the checkpoint, pixels; needed if its grid of patches is
            not square and it does not specify its image size.
        preprocessing: as in `vit_keras.build_vit`; the checkpoint's by default.
        class_names: as in `vit_keras.build_vit`; the checkpoint's by default.
        sha256: expected of a single file, 64 hexadecimal digits.
        name: of the model; the file's by default.
        **overrides: fields of ViTConfig: dropout, stochastic_depth, patch_size (the patch kernel
            is resampled), or what a checkpoint does not specify (heads, gelu).

    Returns:
        ViT with the checkpoint's preprocessing and class names; for masked pre-training
        checkpoints without num_classes a MaskedAutoencoder or MaskedImageModel.

    Raises:
        InputError: for a source that does not exist or is broken, for a checkpoint that is not
            complete or not a ViT (missing and unused names are listed), and for fields that
            neither the checkpoint nor the caller specifies.
    """
    check_fields(overrides)
    sizes: dict[str, Any] = {"image_size": image_size, "weights_image_size": weights_image_size}
    weights = read_weights(source, sha256=sha256, overrides=overrides, **sizes)
    # A head for a checkpoint that has none is new, too.
    own_classes = weights.config.num_classes
    new_head = num_classes is not None and (num_classes != own_classes or not own_classes)
    config = _target_config(weights.config, overrides, image_size)
    if new_head:  # the layer before the old head goes with it
        config = resolve_config(config, num_classes=num_classes, head_width=0)
    weights = _with_preprocessing(weights, config.channels, preprocessing)
    options: dict[str, Any] = {
        "preprocessing": preprocessing or Preprocessing(config.image_size, **weights.preprocessing),
        "name": re.sub(r"[^A-Za-z0-9_.-]", "_", name or pathlib.Path(weights.source).stem),
    }
    if num_classes is None and weights.is_masked:
        model = _build_masked(weights, config, options)
    else:
        fits = not new_head and len(weights.class_names) == config.num_classes
        own_names = weights.class_names if fits else ()
        model = build_vit(config, class_names=tuple(class_names) or own_names, **options)
    report = assign(model, weights, keep_head=new_head)
    _log(report)
    if new_head:
        _zero_head(model)
        _log_new_head(report, num_classes, own_classes)
    return model


def load_weights(
    model: ViT,
    source: str | os.PathLike | ViT,
    *,
    keep_head: bool = False,
    weights_image_size: int | tuple[int, int] | None = None,
    sha256: str | None = None,
) -> LoadReport:
    """Sets all weights of a model from a checkpoint; nothing is set if anything does not fit.

    Args:
        model: made by `vit_keras.build_vit`, of the checkpoint's shape; image size and patch size
            may differ.
        source: as for `from_weights`.
        keep_head: leave the model's head as it is, and do not read the checkpoint's.
        weights_image_size: as for `from_weights`.
        sha256: as for `from_weights`.

    Returns:
        LoadReport: what was set, resized, left out and assumed.

    Raises:
        InputError: as for `from_weights`, and for a checkpoint of another model.
    """
    config = get_config(model)
    weights = read_weights(
        source,
        sha256=sha256,
        image_size=config.image_size,
        weights_image_size=weights_image_size,
        default_heads=config.block.heads,
    )
    report = assign(model, weights, keep_head)
    _warn_of_differences(weights, model)
    return report


def _target_config(own: ViTConfig, overrides, image_size) -> ViTConfig:
    """The checkpoint's config with the caller's fields and image size."""
    fields = dict(overrides)
    if image_size is not None:
        fields["image_size"] = image_size
    elif "patch_size" in overrides:  # as many patches, of another size
        patch_size = check_integer("patch_size", overrides["patch_size"], minimum=1)
        fields["image_size"] = tuple(side * patch_size for side in own.grid)
    if "pooling" in overrides:  # the checkpoint decides whether there is a [CLS] token
        fields.setdefault("cls_token", "cls" in own.prefix_tokens)
    return resolve_config(own, **fields)


def _with_preprocessing(weights: Weights, channels, preprocessing) -> Weights:
    """The weights with a mean and std for each channel; published ones are for RGB."""
    if preprocessing is not None:
        assumptions = without_fields(weights.assumptions, ("mean", "std"))
        return dataclasses.replace(weights, assumptions=assumptions)
    if len(weights.preprocessing["mean"]) == channels:
        return weights
    half = {"mean": (0.5,) * channels, "std": (0.5,) * channels}
    why = f"the checkpoint has none for {channels} channels; pass preprocessing for others"
    return dataclasses.replace(
        weights,
        preprocessing={**weights.preprocessing, **half},
        assumptions=assume(half, why) + without_fields(weights.assumptions, half),
    )


def _build_masked(weights: Weights, config, options) -> ViT:
    """The masked model of a pre-training checkpoint."""
    if weights.decoder is None:
        return build_mim(config, **options)
    if config.patch_size != weights.config.patch_size:
        raise InputError(
            "a masked autoencoder predicts patches of its own size; patch_size is for its encoder, "
            "with num_classes=N."
        )
    return build_mae(config, decoder=weights.decoder, **options)


def _zero_head(model: keras.Model) -> None:
    for layer in model.layers:
        if layer.name in HEADS:
            layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])


def _log_new_head(report: LoadReport, num_classes, own_classes) -> None:
    if num_classes:
        logger.warning(
            "%s: the head is new, to be trained for %d classes (the checkpoint: %s)",
            report.source,
            num_classes,
            own_classes or "none",
        )


def _warn_of_differences(weights: Weights, model: ViT) -> None:
    """Warns of fields that differ and do not change the shapes of the weights."""
    trained_fields, own_fields = weights.config.to_fields(), model.config.to_fields()
    pairs = {name: (trained_fields[name], own_fields[name]) for name in _COMPARED}
    for name in ("mean", "std"):
        pairs[name] = weights.preprocessing[name], getattr(model.preprocessing, name)
    for name, (trained, own) in pairs.items():
        if trained != own:
            logger.warning(
                "%s was trained with %s=%r, and this model has %r: its outputs will differ.",
                weights.source,
                name,
                trained,
                own,
            )


def _log(report: LoadReport) -> None:
    for sentence in (*report.changes, *describe(report.assumptions)):
        logger.warning("%s: %s", report.source, sentence)
    if report.left_out:
        logger.info("%s: left out %s", report.source, shorten(report.left_out))
