"""Recipe -> ViTConfig, Preprocessing and pre-trained weights of the model to train."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras

from training.model.fine_tuning import check_trainable
from vit_keras import Preprocessing, ViT, ViTConfig
from vit_keras.model import build_vit, default_preprocessing
from vit_keras.utils.errors import InputError
from vit_keras.variants import resolve_config
from vit_keras.weights import from_weights

if TYPE_CHECKING:
    from training.model.options import ModelOptions
    from training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class ModelPlan:
    """The model of a recipe, before its classes are known.

    Attributes:
        pretrained: ViT without a head that holds the recipe's weights, or None.
        config: ViTConfig.
        preprocessing: Preprocessing.
    """

    pretrained: ViT | None
    config: ViTConfig
    preprocessing: Preprocessing


def plan_model(recipe: "Recipe") -> ModelPlan:
    """Reads the recipe's weights, if it has any, and works out config and preprocessing.

    Raises:
        InputError: for a recipe without a dataset or weights it needs, and for weights that do not
            fit it.
    """
    options = recipe.model
    if not recipe.data.dataset:
        raise InputError("this recipe has no dataset; name one with --data FOLDER.")
    if not (options.weights or options.image_size):
        raise InputError("this recipe starts from weights; name some with --weights.")
    pretrained = _pretrained(options) if options.weights else None
    if pretrained:
        config, preprocessing = pretrained.config, pretrained.preprocessing
    else:
        config = resolve_config(
            options.variant,
            image_size=options.image_size,
            channels=options.channels,
            **options.config,
        )
        preprocessing = default_preprocessing(config)
    check_trainable(recipe.fine_tuning, config)
    return ModelPlan(pretrained, config, _with_options(preprocessing, options))


def build_classifier(recipe: "Recipe", plan: ModelPlan, class_names: tuple[str, ...]) -> ViT:
    """Builds the planned ViT with a head for these classes."""
    labels: dict[str, Any] = {"class_names": class_names, "num_classes": len(class_names)}
    with dtype_policy(recipe.execution.mixed_precision):
        if plan.pretrained:
            return from_weights(plan.pretrained, preprocessing=plan.preprocessing, **labels)
        return build_vit(
            plan.config, name=recipe.model.variant, preprocessing=plan.preprocessing, **labels
        )


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Makes a Keras dtype policy the default for the layers built inside the block."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _pretrained(options):
    """The model of the recipe's weights, without its head, at the recipe's image size."""
    model = from_weights(
        options.weights, num_classes=0, image_size=options.image_size or None, **options.config
    )
    if model.config.channels != options.channels:
        raise InputError(
            f"the weights {options.weights} are for images of {model.config.channels} channels. "
            f"Got channels={options.channels}; try --set channels={model.config.channels}."
        )
    return model


_PREPROCESSING = {  # fields of Preprocessing: fields of ModelOptions
    "resize": "resize",
    "crop": "crop_fraction",
    "interpolation": "interpolation",
    "mean": "mean",
    "std": "std",
}


def _with_options(preprocessing, options: "ModelOptions"):
    """Preprocessing with the fields that the recipe sets."""
    changes = {field: getattr(options, name) for field, name in _PREPROCESSING.items()}
    changes = {field: value for field, value in changes.items() if value is not None}
    for field in changes.keys() & {"mean", "std"}:
        if len(changes[field]) == 1:
            changes[field] = changes[field] * options.channels
    return dataclasses.replace(preprocessing, **changes)
