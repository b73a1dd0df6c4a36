"""Outputs and targets -> losses, reduced so that they are the same on several devices."""

import keras
from keras import ops

from vit_keras.utils.types import Tensor


class PerExampleLoss(keras.losses.Loss):
    """Mean of losses that a model has computed for each example.

    PerExampleLoss()(losses, losses, sample_weight), losses (batch,), is a scalar. A model that
    computes its own loss must reduce it like this to train the same under tf.distribute.
    """

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred


def mae_loss(patches: Tensor, prediction: Tensor, mask: Tensor, normalised: bool = True) -> Tensor:
    """Computes the mean squared error on the hidden patches (arXiv:2111.06377, section 3).

    Args:
        patches: (batch, patches, pixels), the image's pixels as `Patches` cuts them.
        prediction: of the same shape.
        mask: (batch, patches), 1 for the hidden patches.
        normalised: whether the target is each patch minus its mean, divided by its deviation.

    Returns:
        A scalar.
    """
    if normalised:
        mean, deviation = patch_moments(patches)
        patches = (patches - mean) / deviation
    error = ops.mean(ops.square(prediction - patches), axis=-1)  # (batch, patches)
    return ops.sum(error * mask) / ops.sum(mask)


def patch_moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Computes each patch's mean and deviation as MAE's models_mae.py does.

    Args:
        patches: (batch, patches, pixels).

    Returns:
        Mean and deviation, both (batch, patches, 1). The deviation is the root of the unbiased
        variance plus 1e-6.
    """
    mean = ops.mean(patches, axis=-1, keepdims=True)
    squares = ops.sum(ops.square(patches - mean), axis=-1, keepdims=True)
    return mean, ops.sqrt(squares / (patches.shape[-1] - 1) + 1e-6)


def mim_loss(patches: Tensor, reconstruction: Tensor, masked: Tensor) -> Tensor:
    """Computes the mean absolute error on the hidden patches (arXiv:2111.09886, section 3.4).

    Args:
        patches: (batch, patches, pixels), the image's pixels as `Patches` cuts them.
        reconstruction: of the same shape.
        masked: (batch, patches), 1 for the hidden patches.

    Returns:
        A scalar.
    """
    error = ops.mean(ops.abs(reconstruction - patches), axis=-1)  # (batch, patches)
    return ops.sum(error * masked) / ops.sum(masked)
