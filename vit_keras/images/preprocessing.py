"""uint8 images of any size -> normalised model input, by a rule saved with the model."""

import dataclasses
import functools
from typing import Any

import keras

from vit_keras.utils.checks import as_image_size
from vit_keras.utils.errors import InputError
from vit_keras.utils.types import ImageSize, Shape, Tensor

RESIZES = ("squash", "crop", "pad")
INTERPOLATIONS = ("bilinear", "bicubic")


class Letterbox(keras.layers.Resizing):
    """Resizes whole images until they fit, and adds black borders; arguments as for Resizing.

    (height, width, channels), or with a batch axis, to the layer's height and width. Resizing with
    pad_to_aspect_ratio pads first: an image of one row of pixels would take all memory.

    `self.backend` is TensorFlow inside tf.data, on every Keras backend.
    """

    def transform_images(
        self, images: Tensor, transformation: Any = None, training: bool = True
    ) -> Tensor:
        """Computes what the layer returns."""
        *batch, height, width, channels = self.backend.shape(images)
        rows = self._fitted(height, width, self.height, self.width)
        columns = self._fitted(width, height, self.width, self.height)
        resized = self.backend.image.resize(
            images, (rows, columns), self.interpolation, antialias=self.antialias
        )
        top, left = (self.height - rows) // 2, (self.width - columns) // 2
        borders = (
            (top, self.height - rows - top),
            (left, self.width - columns - left),
            (0, 0),
        )
        padded = self.backend.numpy.pad(resized, (*((0, 0) for _ in batch), *borders))
        return self.backend.numpy.reshape(padded, (*batch, self.height, self.width, channels))

    def _fitted(self, side, other, limit, other_limit):
        """A side of the resized image: as the other one fills its limit, but not above `limit`."""
        if isinstance(side, int) and isinstance(other, int):
            fitted = (2 * side * other_limit + other) // (2 * other)  # rounds half up
            return min(max(fitted, 1), limit)
        side, other = (self.backend.cast(value, "int64") for value in (side, other))
        fitted = (2 * side * other_limit + other) // (2 * other)
        return self.backend.cast(self.backend.numpy.clip(fitted, 1, limit), "int32")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The preprocessing a model was trained with. Call it on images; it also runs inside tf.data.

    Attributes:
        image_size: (height, width) of the result, pixels; an int for a square.
        resize: "crop" keeps the aspect ratio and crops the longer side; "pad" keeps it and adds
            black borders to the shorter side (letterbox); "squash" stretches the whole image to
            the new shape.
        crop: fraction of the resized image's sides kept around its centre, in (0, 1]; 0.875
            resizes to 256 pixels and keeps 224.
        interpolation: "bilinear" or "bicubic", antialiased when the image shrinks.
        mean: of each channel, as a fraction of the brightest value (255).
        std: standard deviation of each channel, as a fraction of the brightest value.

    Raises:
        InputError: for a value outside these.
    """

    image_size: ImageSize
    resize: str = "crop"
    crop: float = 1.0
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", as_image_size(self.image_size))
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        for field, choices in (("resize", RESIZES), ("interpolation", INTERPOLATIONS)):
            if getattr(self, field) not in choices:
                raise InputError(
                    f"{field} must be one of {', '.join(choices)}. Got {getattr(self, field)!r}."
                )
        if not 0 < self.crop <= 1:
            raise InputError(f"crop must be a fraction in (0, 1]. Got crop={self.crop!r}.")
        if len(self.mean) != len(self.std) or min(self.std, default=0) <= 0:
            raise InputError(
                f"mean and std need one number per channel, std above 0. "
                f"Got mean={self.mean}, std={self.std}."
            )

    @property
    def channels(self) -> int:
        """The number of channels of an image."""
        return len(self.mean)

    def __call__(self, images: Tensor) -> Tensor:
        """Resizes, crops and normalises images.

        Args:
            images: (height, width, channels), or with a batch axis, 0..255.

        Returns:
            float32 of image_size, normalised.
        """
        return self.normalise(self.to_size(images))

    def keeps(self, shape: Shape) -> bool:
        """Checks whether images of a shape are neither resized nor cropped.

        Args:
            shape: (..., height, width, channels).

        Returns:
            True if `to_size` does not change such images.
        """
        return tuple(shape[-3:-1]) == self.image_size and self.crop == 1

    def to_size(self, images: Tensor) -> Tensor:
        """Resizes and crops or pads images to image_size.

        Args:
            images: (height, width, channels), or with a batch axis, 0..255.

        Returns:
            float32 of image_size, 0..255.
        """
        images = self._to_float(images)  # resizing integers would round in some contexts
        if self.keeps(images.shape):
            return images
        return self._centre_crop(self._resize(images))

    def normalise(self, images: Tensor) -> Tensor:
        """Computes (value / 255 - mean) / std.

        Args:
            images: (..., channels), 0..255.

        Returns:
            float32 of the same shape.
        """
        return self._rescale(images)

    # Keras layers, because they accept TensorFlow tensors inside tf.data on every backend.

    @functools.cached_property
    def _to_float(self) -> keras.layers.Layer:
        return keras.layers.Rescaling(1.0, dtype="float32")

    @functools.cached_property
    def _resize(self) -> keras.layers.Layer:
        height, width = (round(side / self.crop) for side in self.image_size)
        layer = Letterbox if self.resize == "pad" else keras.layers.Resizing
        return layer(
            height,
            width,
            self.interpolation,
            crop_to_aspect_ratio=self.resize == "crop",
            antialias=True,
            dtype="float32",
        )

    @functools.cached_property
    def _centre_crop(self) -> keras.layers.Layer:
        return keras.layers.CenterCrop(*self.image_size, dtype="float32")

    @functools.cached_property
    def _rescale(self) -> keras.layers.Layer:
        scale = [1 / (255 * std) for std in self.std]
        offset = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        same_for_all_channels = len(set(scale)) == len(set(offset)) == 1
        if same_for_all_channels:  # a number takes half the time of a list
            return keras.layers.Rescaling(scale[0], offset[0], dtype="float32", name="rescale")
        return keras.layers.Rescaling(scale, offset, dtype="float32", name="rescale")
