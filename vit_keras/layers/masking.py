"""Tokens -> fewer or more tokens: the layers of masked pre-training."""

from typing import Any

import keras
import numpy as np
from keras import ops

from vit_keras.layers.positions import sincos2d
from vit_keras.utils.types import Tensor

_register = keras.saving.register_keras_serializable(package="vit_keras")


@_register
class KeepVisible(keras.layers.Layer):
    """Drops all patch tokens but those with the smallest noise.

    [tokens (batch, prefix + patches, width), noise (batch, patches)] -> tokens (batch, prefix +
    keep, width), mask (batch, patches), 1 for the dropped patches, and the order that undoes the
    shuffling, (batch, patches). arXiv:2111.06377, section 3.

    Args:
        keep: number of patch tokens that stay.
        prefix: number of tokens before the patches; they stay.
        **kwargs: arguments of every Keras layer.
    """

    def __init__(self, keep: int, prefix: int = 1, **kwargs: Any) -> None:
        # In half precision many noise values would be equal.
        super().__init__(**{**kwargs, "autocast": False})
        self.keep = keep
        self.prefix = prefix

    def call(self, inputs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        tokens, noise = inputs
        shuffle = ops.argsort(noise, axis=1)
        restore = ops.argsort(shuffle, axis=1)
        indices = ops.expand_dims(shuffle[:, : self.keep], -1)
        visible = ops.take_along_axis(tokens[:, self.prefix :], indices, axis=1)
        mask = ops.cast(restore >= self.keep, "float32")
        return ops.concatenate([tokens[:, : self.prefix], visible], axis=1), mask, restore


@_register
class FillIn(keras.layers.Layer):
    """Puts a learned token where patches were dropped, in the image's order, and adds positions.

    [tokens (batch, prefix + keep, width), order (batch, patches)] -> (batch, prefix + patches,
    width). Positions are fixed, sine-cosine for the patches and zero for the prefix
    (arXiv:2111.06377, section 3), but stored as a weight, because checkpoints contain their own.

    Args:
        grid: (rows, columns) of patches.
        prefix: number of tokens before the patches.
        **kwargs: arguments of every Keras layer.
    """

    def __init__(self, grid: tuple[int, int], prefix: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.prefix = prefix

    def build(self, shapes: Any) -> None:
        (_, visible, width), _ = shapes
        rows, columns = self.grid
        self.hidden = self.prefix + rows * columns - visible
        normal = keras.initializers.RandomNormal(stddev=0.02)
        self.mask = self.add_weight(name="mask", shape=(1, 1, width), initializer=normal)
        table = np.pad(sincos2d(rows, columns, width), ((self.prefix, 0), (0, 0)))
        self.position_table = self.add_weight(
            name="positions",
            shape=(1, *table.shape),
            initializer=lambda shape, dtype: ops.convert_to_tensor(table[np.newaxis], dtype),
            trainable=False,
        )

    def call(self, inputs: list[Tensor]) -> Tensor:
        tokens, restore = inputs
        hidden = ops.tile(self.mask, (ops.shape(tokens)[0], self.hidden, 1))
        x = ops.concatenate([tokens[:, self.prefix :], hidden], axis=1)
        x = ops.take_along_axis(x, ops.expand_dims(restore, -1), axis=1)
        return ops.concatenate([tokens[:, : self.prefix], x], axis=1) + self.position_table


@_register
class WithoutPrefix(keras.layers.Layer):
    """Drops the tokens before the patches.

    (batch, prefix + patches, width) -> (batch, patches, width).

    Args:
        prefix: number of tokens before the patches.
        **kwargs: arguments of every Keras layer.
    """

    def __init__(self, prefix: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prefix = prefix

    def call(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.prefix :]


@_register
class Unpatch(keras.layers.Layer):
    """Assembles images from flattened patches: the inverse of `Patches`.

    (batch, patches, size * size * channels) -> (batch, height, width, channels).

    Args:
        grid: (rows, columns) of patches.
        size: pixels, the side of a patch.
        **kwargs: arguments of every Keras layer.
    """

    def __init__(self, grid: tuple[int, int], size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.size = size

    def call(self, patches: Tensor) -> Tensor:
        (rows, columns), size = self.grid, self.size
        channels = patches.shape[-1] // size**2
        x = ops.reshape(patches, (-1, columns, size, size * channels))
        x = ops.transpose(x, (0, 2, 1, 3))  # (batch * rows, size, columns, size * channels)
        return ops.reshape(x, (-1, rows * size, columns * size, channels))
