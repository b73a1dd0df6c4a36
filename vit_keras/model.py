"""A variant's name or ViTConfig -> functional keras.Model, images to logits."""

import dataclasses
import os
import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any, ClassVar

import keras

from vit_keras.backbone import embed, image_input, norm, transform
from vit_keras.config import ViTConfig
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.layers.embedding import PatchDropout
from vit_keras.layers.pooling import AttentionPool, Pool, SequencePool
from vit_keras.utils.errors import InputError, first_line
from vit_keras.utils.types import Tensor
from vit_keras.variants import resolve_config

HEADS = ("head", "head_dist")  # names of the layers that give logits; the second if distilled


@keras.saving.register_keras_serializable(package="vit_keras")
class ViT(keras.Model):
    """A functional model that also carries its config, preprocessing and class names.

    Made by `build_vit`. All attributes are saved in the .keras file.

    Attributes:
        config: ViTConfig.
        preprocessing: Preprocessing, uint8 images of any size -> this model's input.
        class_names: tuple of the classes' names in the order of the logits, or empty.
        description: one line about the weights; may be set.
        trained_on: name of the dataset that the weights were trained on, or ""; may be set.
        task: what the model learns: "classification", "mae" or "mim".
    """

    task: ClassVar[str] = "classification"

    # *args and **kwargs: only with this signature does every Keras since 3.12 revive a subclass as
    # a functional model.
    def __init__(
        self,
        *args: Any,
        config: dict[str, Any],
        preprocessing: dict[str, Any],
        class_names: Iterable[str] = (),
        description: str = "",
        trained_on: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.config = ViTConfig.from_fields(**config)
        self.preprocessing = Preprocessing(**preprocessing)
        self.class_names = tuple(class_names)
        self.description = description
        self.trained_on = trained_on

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "config": self.config.to_fields(),
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "class_names": list(self.class_names),
            "description": self.description,
            "trained_on": self.trained_on,
        }


def build_vit(
    variant: str | ViTConfig = "vit_b16",
    *,
    preprocessing: Preprocessing | None = None,
    class_names: Iterable[Any] = (),
    name: str | None = None,
    **overrides: Any,
) -> ViT:
    """Builds a Vision Transformer as a functional model with named layers.

    Args:
        variant: a row of `vit_keras.VARIANTS`, or a ViTConfig.
        preprocessing: Preprocessing that belongs to the model; by default a centre crop, resized
            bilinearly and scaled to [-1, 1] as for Google's checkpoints.
        class_names: names of the classes in the order of the logits.
        name: of the model; the variant's by default.
        **overrides: fields of ViTConfig and its block: image_size, num_classes, dropout, ...

    Returns:
        ViT. Input `images`: float32 (batch, height, width, channels), normalised. Output `head`,
        or `logits` of a distilled model: (batch, num_classes); with num_classes=0 the pooled token
        (batch, width).

    Raises:
        InputError: for an unknown variant or field, a config no ViT can be built from, or
            preprocessing or class names that do not fit it.
    """
    config = resolve_config(variant, **overrides)
    preprocessing = preprocessing or default_preprocessing(config)
    names = tuple(map(str, class_names))
    check_fits(config, preprocessing, names)
    images = image_input(config)
    return ViT(
        images,
        _output(config, images),
        name=name or (variant if isinstance(variant, str) else "vit"),
        config=config.to_fields(),
        preprocessing=dataclasses.asdict(preprocessing),
        class_names=names,
    )


def default_preprocessing(config: ViTConfig) -> Preprocessing:
    """Makes the preprocessing of a model without another one.

    Args:
        config: ViTConfig.

    Returns:
        A centre crop, resized bilinearly and scaled to [-1, 1].
    """
    half = (0.5,) * config.channels
    return Preprocessing(config.image_size, mean=half, std=half)


def get_config(model: keras.Model) -> ViTConfig:
    """Returns the ViTConfig of a model that was built, loaded or fine-tuned.

    Args:
        model: ViT.

    Returns:
        ViTConfig.

    Raises:
        InputError: for a model that `build_vit` did not make.
    """
    if not isinstance(model, ViT):
        raise InputError(
            f"only models made by vit_keras.build_vit carry a ViTConfig. "
            f"Got {model!r}; build one and copy its weights over."
        )
    return model.config


def load_model(path: str | os.PathLike[str]) -> ViT:
    """Loads a .keras file of a model that `build_vit` made, without compiling it.

    Args:
        path: of the file.

    Returns:
        ViT.

    Raises:
        InputError: if there is no file, or it is broken or holds another model.
    """
    model = load_any(path)
    get_config(model)
    return model


def load_any(path: str | os.PathLike[str]) -> keras.Model:
    """Loads a .keras file of any model, without compiling it.

    Args:
        path: of the file.

    Returns:
        keras.Model.

    Raises:
        InputError: if there is no file, or it is broken.
    """
    if not pathlib.Path(path).exists():
        raise InputError(f"{path} does not exist.")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not a complete .keras file.")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a broken file can fail in any of its layers: zip, JSON, HDF5
        raise InputError(
            f"{path} cannot be loaded as a .keras model: {first_line(error)}"
        ) from error


def _output(config: ViTConfig, images: Tensor) -> Tensor:
    """Images -> the only output of the model: logits, or the pooled token."""
    tokens = embed(config, images)
    if config.patch_dropout:
        dropout = PatchDropout(config.patch_dropout, config.prefix_count, name="patch_dropout")
        tokens = dropout(tokens)
    tokens, sizes = transform(config, tokens)
    if not config.norm_after_pooling:
        tokens = norm(config, "norm")(tokens)
    inputs = tokens if sizes is None else [tokens, sizes]
    output = _head(config, _pool(config, "pool")(inputs), suffix="")
    if not config.distilled:
        return output
    distilled = _head(config, _pool(config, "pool_dist")(inputs), suffix="_dist")
    # DeiT, section 4: at inference the mean of both heads.
    return keras.layers.Average(name="logits", dtype="float32")([output, distilled])


def _pool(config: ViTConfig, name: str) -> keras.layers.Layer:
    if config.pooling == "map":
        return AttentionPool(block=config.block, prefix=config.prefix_count, name=name)
    if config.pooling == "sequence":
        return SequencePool(name=name)
    kind = "dist" if name == "pool_dist" else config.pooling
    return Pool(kind, config.prefix_count, name=name)


def _head(config: ViTConfig, x: Tensor, suffix: str) -> Tensor:
    """Pooled token -> logits, or the pooled token if there are no classes."""
    if config.norm_after_pooling:
        x = norm(config, "norm")(x)
    if config.head_width:
        x = keras.layers.Dense(config.head_width, activation="tanh", name=f"pre_logits{suffix}")(x)
    if not config.num_classes:
        return x
    # float32 also under mixed precision: the loss needs the digits.
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    return keras.layers.Dense(
        config.num_classes, kernel_initializer=initializer, name=f"head{suffix}", dtype="float32"
    )(x)


def check_fits(
    config: ViTConfig, preprocessing: Preprocessing, class_names: tuple[str, ...] = ()
) -> None:
    """Checks that preprocessing and class names belong to a model.

    Args:
        config: ViTConfig of the model.
        preprocessing: Preprocessing.
        class_names: names of the classes, or none.

    Raises:
        InputError: for another image size, and other numbers of channels or classes.
    """
    if preprocessing.image_size != config.image_size:
        raise InputError(
            f"preprocessing must give images of the model's size. "
            f"Got {preprocessing.image_size} for a model of {config.image_size}."
        )
    if preprocessing.channels != config.channels:
        raise InputError(
            f"preprocessing needs a mean and std for each of the model's channels. "
            f"Got {preprocessing.channels} for a model of channels={config.channels}."
        )
    if class_names and len(set(class_names)) != config.num_classes:
        raise InputError(
            f"class_names must name every class, each with another name. "
            f"Got {len(set(class_names))} names for num_classes={config.num_classes}."
        )
