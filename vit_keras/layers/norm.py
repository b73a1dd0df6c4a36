"""Tensors -> normalised tensors: tokens, or features of a convolution."""

from typing import Any

import keras
from keras import ops

from vit_keras.utils.types import Tensor

_register = keras.saving.register_keras_serializable(package="vit_keras")

# Phones' GPUs compute in float16, whose largest number is 65,504. Both layers therefore scale the
# deviation down before they square it. Statistics are computed in float32 under mixed precision.


@_register
class LayerNorm(keras.layers.LayerNormalization):
    """Keras's LayerNormalization in the order of operations that exports best.

    (..., width) -> (..., width). Written as (x - mean) / sqrt(variance + epsilon) * gamma + beta,
    gamma and beta fold into the Dense layer that follows.

    Args:
        epsilon: added to the variance.
        **kwargs: arguments of every Keras layer.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(epsilon=epsilon, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**keras.layers.Layer.get_config(self), "epsilon": self.epsilon}

    def call(self, inputs: Tensor) -> Tensor:
        x = ops.cast(inputs, "float32")
        x = x - ops.mean(x, axis=-1, keepdims=True)
        scaled = x * x.shape[-1] ** -0.5
        variance = ops.sum(ops.square(scaled), axis=-1, keepdims=True)
        x = x * ops.rsqrt(variance + self.epsilon)
        return ops.cast(x * self.gamma + self.beta, self.compute_dtype)


@_register
class GroupNorm(keras.layers.GroupNormalization):
    """Keras's GroupNormalization (arXiv:1803.08494) without a tensor of more than four axes.

    (batch, height, width, channels) -> the same shape. Statistics of channels come first, then
    those of groups of neighbouring channels.
    """

    def call(self, inputs: Tensor) -> Tensor:
        x = ops.cast(inputs, "float32")
        x = x - self._group_means(ops.mean(x, axis=(1, 2)))
        scaled = x * (x.shape[1] * x.shape[2]) ** -0.5
        variance = self._group_means(ops.sum(ops.square(scaled), axis=(1, 2)))
        x = x * ops.rsqrt(variance + self.epsilon)
        return ops.cast(x * self.gamma + self.beta, self.compute_dtype)

    def _group_means(self, x: Tensor) -> Tensor:
        """(batch, channels) -> (batch, 1, 1, channels), each channel with the mean of its group."""
        channels = x.shape[-1]
        size = channels // self.groups
        means = ops.mean(ops.reshape(x, (-1, self.groups, size)), axis=-1, keepdims=True)
        return ops.reshape(ops.tile(means, (1, 1, size)), (-1, 1, 1, channels))
