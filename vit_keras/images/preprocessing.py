"""uint8 images of any size -> normalised model input, by one rule that travels with the model."""

import dataclasses
import functools

import keras

from vit_keras.utils.checks import as_image_size
from vit_keras.utils.errors import InputError

RESIZES = ("squash", "crop")
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a model was trained to see. Call it on images; it runs inside tf.data as well.

    Attributes:
        image_size: (height, width) of the result, pixels; an int for a square.
        resize: "crop" keeps the aspect ratio and cuts what is left over on the longer side;
            "squash" stretches the whole image to the new shape.
        crop: fraction of the resized image's sides kept around its centre, in (0, 1]; 0.875
            resizes to 256 pixels and keeps 224.
        interpolation: "bilinear" or "bicubic", antialiased when the image shrinks.
        mean, std: of each channel, as fractions of the brightest value (255).

    Raises:
        InputError: for a value outside these.
    """

    image_size: int | tuple[int, int]
    resize: str = "crop"
    crop: float = 1.0
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self):
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
    def channels(self):
        return len(self.mean)

    def __call__(self, images):
        """(height, width, channels), or with a batch axis, 0..255 -> float32, normalised."""
        return self.normalise(self.to_size(images))

    def keeps(self, shape):
        """Whether images of this shape, (..., height, width, channels), stay as they are."""
        return tuple(shape[-3:-1]) == self.image_size and self.crop == 1

    def to_size(self, images):
        """Resizes and crops images of 0..255 to image_size; returns float32."""
        images = self._to_float(images)  # resizing whole numbers would round in some contexts
        if self.keeps(images.shape):
            return images
        return self._centre_crop(self._resize(images))

    def normalise(self, images):
        """(..., channels) of 0..255 -> (value / 255 - mean) / std"""
        return self._rescale(images)

    # Layers, because they take TensorFlow's tensors inside tf.data on every backend.

    @functools.cached_property
    def _to_float(self):
        return keras.layers.Rescaling(1.0, dtype="float32")

    @functools.cached_property
    def _resize(self):
        height, width = (round(side / self.crop) for side in as_image_size(self.image_size))
        return keras.layers.Resizing(
            height,
            width,
            self.interpolation,
            crop_to_aspect_ratio=self.resize == "crop",
            antialias=True,
            dtype="float32",
        )

    @functools.cached_property
    def _centre_crop(self):
        return keras.layers.CenterCrop(*as_image_size(self.image_size), dtype="float32")

    @functools.cached_property
    def _rescale(self):
        scale = [1 / (255 * std) for std in self.std]
        offset = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        alike = len(set(scale)) == len(set(offset)) == 1
        # A number takes half the time of a list.
        numbers = (scale[0], offset[0]) if alike else (scale, offset)
        return keras.layers.Rescaling(*numbers, dtype="float32", name="rescale")
