"""Tokens -> normalised tokens."""

import keras
from keras import ops

_register = keras.saving.register_keras_serializable(package="vit_keras")


@_register
class LayerNorm(keras.layers.LayerNormalization):
    """Keras's LayerNormalization in the order of operations that exports best.

    (..., width) -> (..., width). Written as (x - mean) / sqrt(variance + epsilon) * gamma + beta
    it becomes 7 TFLite operations instead of 11, and gamma and beta fold into the Dense behind
    it. Statistics are taken in float32 under mixed precision.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(epsilon=epsilon, **kwargs)

    def get_config(self):
        return {**keras.layers.Layer.get_config(self), "epsilon": self.epsilon}

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        x = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
        x = x * ops.rsqrt(variance + self.epsilon)
        return ops.cast(x * self.gamma + self.beta, self.compute_dtype)
