"""Recipe -> what a run needs before it trains: readable images, and the model's settings."""

import dataclasses
import pathlib

from training.model.fine_tuning import check_tune
from training.model.trainer import dtype_policy
from vit_keras.model import build_vit, default_preprocessing
from vit_keras.tasks.masked import DecoderConfig, build_mae, build_mim
from vit_keras.utils.errors import InputError
from vit_keras.variants import resolve_config
from vit_keras.weights import PUBLISHED, from_weights


def settings(recipe):
    """What the recipe asks for: the model its weights tell, or None, ViTConfig and Preprocessing.

    The model has no head, and the config no classes, until the images are known.

    Raises:
        InputError: for a recipe that lacks data or weights, and for weights that do not fit it.
    """
    if not recipe.data:
        raise InputError("this recipe has no data of its own; name some with --data FOLDER.")
    if not (recipe.weights or recipe.image_size):
        raise InputError("this recipe starts from weights; name some with --weights.")
    if (recipe.distillation == "none") == bool(recipe.teacher):
        missing = "--set distillation=hard or soft" if recipe.teacher else "--teacher MODEL"
        raise InputError(f"to learn from a teacher takes {missing} as well.")
    named = pathlib.Path(recipe.teacher)
    if not ("://" in recipe.teacher or recipe.teacher in PUBLISHED or named.exists()):
        raise InputError(f"the teacher {recipe.teacher} does not exist.")
    pretrained = _pretrained(recipe) if recipe.weights else None
    config, preprocessing = _model_of(recipe, pretrained)
    check_tune(recipe.tune, config)
    return pretrained, config, preprocessing


def new_model(recipe, pretrained, config, preprocessing, class_names):
    """The ViT of `settings`, with a head for these classes or what masked pre-training needs."""
    options = {"preprocessing": preprocessing}
    labels = {"class_names": class_names, "num_classes": len(class_names)}
    with dtype_policy(recipe.mixed_precision):
        if recipe.pretrain == "mae":
            decoder = DecoderConfig(mask_ratio=recipe.mask_ratio, **recipe.decoder)
            return build_mae(config, decoder=decoder, name=recipe.variant, **options)
        if recipe.pretrain == "mim":
            return build_mim(config, name=recipe.variant, **options)
        if pretrained:
            return from_weights(pretrained, **labels, **options)
        return build_vit(config, name=recipe.variant, **labels, **options)


def _pretrained(recipe):
    """The model that the recipe's weights tell, without its head, at the recipe's image size"""
    model = from_weights(
        recipe.weights, num_classes=0, image_size=recipe.image_size or None, **recipe.model
    )
    if model.config.channels != recipe.channels:
        raise InputError(
            f"the weights {recipe.weights} are for images of {model.config.channels} channels. Got "
            f"channels={recipe.channels}; try --set channels={model.config.channels}."
        )
    return model


_PREPROCESSING = {  # its fields: the recipe's
    "resize": "resize",
    "crop": "crop_fraction",
    "interpolation": "interpolation",
    "mean": "mean",
    "std": "std",
}


def _model_of(recipe, pretrained=None):
    """The ViTConfig (still without its classes) and Preprocessing that a recipe asks for."""
    if pretrained:
        config, preprocessing = pretrained.config, pretrained.preprocessing
    else:
        size = {"image_size": recipe.image_size, "channels": recipe.channels}
        config = resolve_config(recipe.variant, **size, **recipe.model)
        preprocessing = default_preprocessing(config)
    stated = {field: getattr(recipe, name) for field, name in _PREPROCESSING.items()}
    stated = {field: value for field, value in stated.items() if value is not None}
    for field in stated.keys() & {"mean", "std"}:
        stated[field] = stated[field] * (recipe.channels if len(stated[field]) == 1 else 1)
    return config, dataclasses.replace(preprocessing, **stated)
