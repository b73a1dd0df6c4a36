"""Weights from anywhere -> a Keras model that computes what the original computes."""

import logging
import pathlib
import re

from vit_keras.config import check_fields
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.model import HEADS, ViT, build_vit, get_config
from vit_keras.tasks.masked import build_mae, build_mim
from vit_keras.utils.checks import check_integer
from vit_keras.utils.errors import InputError
from vit_keras.variants import resolve_config
from vit_keras.weights.assign import LoadReport, assign
from vit_keras.weights.checkpoint import shortened
from vit_keras.weights.read import read_weights

logger = logging.getLogger("vit_keras")


def from_weights(
    source,
    num_classes=None,
    image_size=None,
    *,
    weights_image_size=None,
    preprocessing=None,
    class_names=(),
    sha256=None,
    name=None,
    **overrides,
) -> ViT:
    """Builds the model that a checkpoint's names, shapes and settings tell, with its weights.

    Args:
        source: a path, an https:// address, hf://owner/name[@revision], or a row of
            `vit_keras.PUBLISHED`. Google's and big_vision's .npz, timm's, Hugging Face's and
            Facebook's files and folders, or a .keras file of this project; also a ViT.
        num_classes: another number than the checkpoint's replaces its head by a new one of zeros
            (arXiv:2010.11929, section 3.2), to be trained; None keeps the head. 0 gives features,
            the pooled token.
        image_size: pixels, an int or (height, width); positions are resized by the rule of the
            checkpoint's family. None keeps its own.
        weights_image_size: the image size of the checkpoint, for one whose grid of patches is not
            square and which does not tell.
        preprocessing, class_names: as in `vit_keras.build_vit`; the checkpoint's by default.
        sha256: expected of a single file.
        name: of the model.
        **overrides: fields of ViTConfig: dropout, stochastic_depth, patch_size (the patch kernel
            is resampled), or what a checkpoint cannot tell (heads, gelu).

    Returns:
        ViT with the checkpoint's preprocessing and class names; for masked pre-training
        checkpoints without num_classes a MaskedAutoencoder or MaskedImageModel.

    Raises:
        InputError: for a source that is not there or broken, for a checkpoint that is not whole or
            not a ViT (missing and unused names are listed), and for what it cannot tell.
    """
    check_fields(overrides)
    weights = read_weights(source, sha256, image_size, weights_image_size, overrides)
    wanted = dict(overrides)
    if image_size is not None:
        wanted["image_size"] = image_size
    elif "patch_size" in overrides:
        patch_size = check_integer("patch_size", overrides["patch_size"], minimum=1)
        wanted["image_size"] = tuple(side * patch_size for side in weights.config.grid)
    if "pooling" in overrides:  # which tokens there are is for the checkpoint to say
        wanted.setdefault("cls_token", "cls" in weights.config.prefix_tokens)
    # A head that is asked for where there is none is new, too; what stood before it goes with it.
    own = weights.config.num_classes
    new_head = num_classes is not None and (num_classes != own or not own)
    if new_head:
        wanted.update(num_classes=num_classes, head_width=0)
    config = resolve_config(weights.config, **wanted)
    options: dict = {
        "preprocessing": preprocessing or Preprocessing(config.image_size, **_rgb(weights, config)),
        "name": re.sub(r"[^A-Za-z0-9_.-]", "_", name or pathlib.Path(weights.source).stem),
    }
    if num_classes is None and weights.decoder is not None:
        if config.patch_size != weights.config.patch_size:
            raise InputError(
                "a masked autoencoder predicts patches of its own size: patch_size is for its "
                "encoder, with num_classes=N."
            )
        model = build_mae(config, decoder=weights.decoder, **options)
    elif num_classes is None and "reconstruction/kernel" in weights.ours:
        model = build_mim(config, **options)
    else:
        fitting = not new_head and len(weights.class_names) == config.num_classes
        names = class_names or (weights.class_names if fitting else ())
        model = build_vit(config, class_names=names, **options)
    report = assign(model, weights, keep_head=new_head)
    for layer in model.layers:
        if new_head and layer.name in HEADS:
            layer.set_weights([weight * 0 for weight in layer.get_weights()])
    for sentence in report.changed:
        logger.warning("%s: %s", report.source, sentence)
    if report.left_out:
        logger.info("%s: left out %s", report.source, shortened(report.left_out))
    if new_head and num_classes:
        logger.warning(
            "%s: the head is new, to be trained for %d classes (the checkpoint: %s)",
            report.source, num_classes, own or "none",
        )  # fmt: skip
    return model


def load_weights(
    model, source, *, keep_head=False, weights_image_size=None, sha256=None
) -> LoadReport:
    """Sets all weights of a model from a checkpoint; nothing is set if anything does not fit.

    Args:
        model: made by `vit_keras.build_vit`, of the checkpoint's shape; image size and patch size
            may differ.
        source: as for `from_weights`.
        keep_head: leave the model's head as it is, and the checkpoint's aside.
        weights_image_size, sha256: as for `from_weights`.

    Raises:
        InputError: as for `from_weights`, and for a checkpoint of another model.
    """
    config = get_config(model)
    weights = read_weights(
        source, sha256, config.image_size, weights_image_size, {}, heads=config.block.heads
    )
    report = assign(model, weights, keep_head)
    of_checkpoint, of_model = weights.config.to_fields(), config.to_fields()
    pairs = {name: (of_checkpoint[name], of_model[name]) for name in _COMPARED}
    for name in ("mean", "std"):
        pairs[name] = weights.preprocessing[name], getattr(model.preprocessing, name)
    for name, (theirs, own) in pairs.items():
        if theirs != own:
            logger.warning(
                "%s was trained with %s=%r, and this model has %r: its outputs will differ.",
                report.source, name, theirs, own,
            )  # fmt: skip
    return report


# Fields that change what a model computes and not the shapes of its weights.
_COMPARED = ("heads", "gelu", "norm_epsilon", "pooling", "norm_after_pooling", "merge_tokens")


def _rgb(weights, config):
    options = dict(weights.preprocessing)
    if len(options["mean"]) != config.channels:  # published settings are for RGB
        options.update(mean=(0.5,) * config.channels, std=(0.5,) * config.channels)
    return options
