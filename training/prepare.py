"""Recipe -> what a run needs before it trains: readable images, and the model's settings."""

import dataclasses
import pathlib

import numpy as np

from training.datasets import find_splits
from training.examples import split_off
from training.pipeline import read_all
from training.trainer import dtype_policy
from training.tune import check_tune
from vit_keras.errors import InputError
from vit_keras.masked import DecoderConfig, build_mae, build_mim
from vit_keras.model import build_vit, default_preprocessing
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


def load_splits(recipe):
    """{"train", "validation", perhaps "test": Examples}, of which nothing has been decoded yet."""
    spelled = {
        "train": recipe.train_split,
        "validation": recipe.validation_split,
        "test": recipe.test_split,
    }
    labelled = recipe.pretrain == "none"
    found = find_splits(recipe.data, recipe.channels, spelled, recipe.data_dir, labelled)
    if "train" not in found:
        raise InputError(f"{recipe.data} has no training images; it has: {', '.join(found)}.")
    splits = {split: load() for split, load in found.items()}
    _check_classes(splits["train"], recipe)
    if "validation" not in splits:
        splits["train"], splits["validation"] = split_off(
            splits["train"], recipe.validation_fraction, recipe.seed
        )
    return splits


def _check_classes(train, recipe):
    if recipe.pretrain != "none":
        return
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    if len(counts) < 2:
        raise InputError(
            f"{recipe.data} has only the class {train.class_names[0]!r}; "
            f"training needs images of two or more."
        )
    if not counts.all():
        raise InputError(
            f"class {train.class_names[counts.argmin()]!r} has no readable training images in "
            f"{recipe.data}. Add some, or remove the class."
        )


def only_readable(splits, recipe, image_size, run):
    """Leaves out unreadable images and lists them; keeps small sets of images in memory.

    Returns:
        the splits, and {name: reason} of what was left out.
    """
    readable, reasons = {}, dict[str, str]()
    for split, examples in splits.items():
        # Only what is read again and again is worth keeping.
        cache_mib = recipe.cache_mib if split == "train" else 0
        side = 2 * max(image_size) if split == "train" else None
        readable[split], found = read_all(examples, cache_mib, side)
        reasons |= found
    if reasons:
        lines = [f"{name}\t{reason}" for name, reason in reasons.items()]
        (run / "unreadable.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        total = sum(map(len, splits.values()))
        first = lines[0].replace("\t", ": ")
        share = f"{len(reasons)} of {total} images cannot be read ({first}"
        share += f", ...); all are listed in {run / 'unreadable.txt'}"
        if len(reasons) > recipe.max_unreadable * total:
            raise InputError(
                f"{share}. That is more than max_unreadable={recipe.max_unreadable}: repair or "
                f"remove them, or allow more with --set max_unreadable=0.5."
            )
        print(f"Warning: {share}. They are left out.", flush=True)
        _check_classes(readable["train"], recipe)
    return readable, reasons


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
