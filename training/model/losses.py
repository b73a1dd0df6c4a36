"""Targets and logits -> the loss of each image: the table LOSSES."""

from typing import Any

import keras
from keras import ops


def softmax(targets: Any, logits: Any) -> Any:
    """Cross-entropy; (batch, classes), (batch, classes) -> (batch,)."""
    return keras.losses.categorical_crossentropy(targets, logits, from_logits=True)


def sigmoid(targets: Any, logits: Any) -> Any:
    """Binary cross-entropy of each class, summed over the classes, as in big_vision.

    (batch, classes), (batch, classes) -> (batch,).
    """
    return ops.sum(ops.binary_crossentropy(targets, logits, from_logits=True), axis=-1)


def sigmoid_any(targets: Any, logits: Any) -> Any:
    """Mean binary cross-entropy; a class with any share in the image counts as fully present.

    (batch, classes), (batch, classes) -> (batch,). DeiT III's engine.py does this to the labels of
    MixUp and CutMix. Without label smoothing.
    """
    present = ops.cast(targets > 0, logits.dtype)
    return ops.mean(ops.binary_crossentropy(present, logits, from_logits=True), axis=-1)


LOSSES = {"softmax": softmax, "sigmoid": sigmoid, "sigmoid-any": sigmoid_any}
