"""Images -> features: the convolutions before the patches of some ViTs."""

import math
from typing import Any

import keras
from keras import ops

from vit_keras.config import convolution_stride
from vit_keras.layers.norm import GroupNorm
from vit_keras.utils.errors import InputError
from vit_keras.utils.types import Shape, Tensor

_register = keras.saving.register_keras_serializable(package="vit_keras")


@_register
class StandardizedConv2D(keras.layers.Conv2D):
    """A convolution whose kernel has mean 0 and deviation 1 for each output channel.

    (batch, height, width, channels) -> (batch, ceil(height / strides), ceil(width / strides),
    filters). Weight standardisation (arXiv:1903.10520) as in BiT; 1e-5 is added to the deviation,
    as in vision_transformer's models_resnet.py. Without a bias, padded with "same".

    Args:
        filters: output channels.
        kernel_size: pixels, the side of the kernel.
        strides: pixels between neighbouring outputs.
        **kwargs: arguments of every Keras layer.
    """

    def __init__(self, filters: int, kernel_size: int, strides: int = 1, **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, strides, padding="same", use_bias=False, **kwargs)

    def get_config(self) -> dict[str, Any]:
        own = {"filters": self.filters, "kernel_size": self.kernel_size, "strides": self.strides}
        return {**keras.layers.Layer.get_config(self), **own}

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        kernel = ops.cast(kernel, "float32")
        kernel = kernel - ops.mean(kernel, axis=(0, 1, 2))
        kernel = kernel / (ops.std(kernel, axis=(0, 1, 2)) + 1e-5)
        return super().convolution_op(inputs, ops.cast(kernel, inputs.dtype))


def _group_norm(name: str, dtype: Any) -> keras.layers.Layer:
    return GroupNorm(32, epsilon=1e-6, name=name, dtype=dtype)


@_register
class ResidualUnit(keras.layers.Layer):
    """BiT's bottleneck: three convolutions, each with a GroupNorm, and a shortcut.

    (batch, height, width, channels) -> (batch, ceil(height / stride), ceil(width / stride),
    4 * filters). vision_transformer's models_resnet.py, ResidualUnit.

    Args:
        filters: channels of the first two convolutions; a multiple of 32.
        stride: of the second one, pixels.
        **kwargs: arguments of every Keras layer.
    """

    def __init__(self, filters: int, stride: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.stride = stride

    def build(self, features_shape: Shape) -> None:
        dtype = self.dtype_policy
        wide = 4 * self.filters
        sizes = ((self.filters, 1, 1), (self.filters, 3, self.stride), (wide, 1, 1))
        # Flat lists: Keras 3.12 does not load layers in nested tuples.
        self.convolutions = [
            StandardizedConv2D(*size, name=f"conv{number}", dtype=dtype)
            for number, size in enumerate(sizes, 1)
        ]
        self.norms = [_group_norm(f"gn{number}", dtype) for number in (1, 2, 3)]
        self.shortcut = []
        if features_shape[-1] != wide or self.stride != 1:
            self.shortcut = [
                StandardizedConv2D(wide, 1, self.stride, name="conv_proj", dtype=dtype),
                _group_norm("gn_proj", dtype),
            ]
        shape = features_shape
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            convolution.build(shape)
            shape = convolution.compute_output_shape(shape)
            norm.build(shape)
        for layer in self.shortcut:
            layer.build(features_shape if layer is self.shortcut[0] else shape)

    def call(self, features: Tensor) -> Tensor:
        x = features
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(convolution(x))
            x = x if norm is self.norms[-1] else ops.relu(x)
        for layer in self.shortcut:
            features = layer(features)
        return ops.relu(features + x)

    def compute_output_shape(self, features_shape: Any) -> Shape:
        batch, height, width, _ = features_shape
        sides = (math.ceil(side / self.stride) for side in (height, width))
        return batch, *sides, 4 * self.filters


@_register
class ResNetStem(keras.layers.Layer):
    """The ResNet of a hybrid ViT: a 7x7 convolution, max-pooling, and stages of bottlenecks.

    (batch, height, width, channels) -> (batch, height / s, width / s, features), where s is 4,
    doubled by every stage after the first. arXiv:2010.11929, section 3.1.

    Args:
        width: channels of the root; a multiple of 32.
        blocks: bottlenecks in each stage; () for the root alone.
        **kwargs: arguments of every Keras layer.

    Raises:
        InputError: for a width that is not a multiple of 32.
    """

    def __init__(self, width: int = 64, blocks: tuple[int, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if width % 32:
            raise InputError(f"stem_width must be a multiple of 32. Got stem_width={width}.")
        self.width = width
        self.blocks = tuple(blocks)

    def build(self, images_shape: Shape) -> None:
        dtype = self.dtype_policy
        self.root = StandardizedConv2D(self.width, 7, 2, name="conv_root", dtype=dtype)
        self.root_norm = _group_norm("gn_root", dtype)
        self.pool = keras.layers.MaxPooling2D(3, 2, padding="same", dtype=dtype)
        self.units = [
            ResidualUnit(
                self.width * 2**stage,
                stride=2 if stage and not unit else 1,
                name=f"block{stage + 1}_unit{unit + 1}",
                dtype=dtype,
            )
            for stage, count in enumerate(self.blocks)
            for unit in range(count)
        ]
        shape = images_shape
        for layer in (self.root, self.root_norm, self.pool, *self.units):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, images: Tensor) -> Tensor:
        x = self.pool(ops.relu(self.root_norm(self.root(images))))
        for unit in self.units:
            x = unit(x)
        return x


@_register
class ConvolutionStem(keras.layers.Layer):
    """Convolutions, each with ReLU and max-pooling, in place of patches.

    (batch, height, width, channels) -> (batch, patches, tokens_width). CCT, arXiv:2104.05704,
    section 3.2. Padding is "same"; CCT's own code pads both sides equally.

    Args:
        tokens_width: channels of the last convolution.
        layers: number of convolutions.
        kernel: pixels, the side of their kernels; the stride is 1 for 3, 2 for 7.
        width: channels of all convolutions but the last.
        **kwargs: arguments of every Keras layer.
    """

    def __init__(
        self, tokens_width: int, layers: int, kernel: int = 3, width: int = 64, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.tokens_width = tokens_width
        self.layers = layers
        self.kernel = kernel
        self.width = width

    def build(self, images_shape: Shape) -> None:
        dtype = self.dtype_policy
        self.convolutions = [
            keras.layers.Conv2D(
                self.tokens_width if number == self.layers - 1 else self.width,
                self.kernel,
                strides=convolution_stride(self.kernel),
                padding="same",
                use_bias=False,
                activation="relu",
                kernel_initializer="he_normal",
                name=f"conv{number}",
                dtype=dtype,
            )
            for number in range(self.layers)
        ]
        self.pool = keras.layers.MaxPooling2D(3, 2, padding="same", dtype=dtype)
        shape = images_shape
        for convolution in self.convolutions:
            convolution.build(shape)
            shape = self.pool.compute_output_shape(convolution.compute_output_shape(shape))

    def call(self, images: Tensor) -> Tensor:
        x = images
        for convolution in self.convolutions:
            x = self.pool(convolution(x))
        _, rows, columns, _ = x.shape
        return ops.reshape(x, (-1, rows * columns, self.tokens_width))
