"""Targets and logits -> the loss of each image: the table LOSSES."""

import keras
from keras import KerasTensor, ops


def softmax(targets: KerasTensor, logits: KerasTensor) -> KerasTensor:
    """Cross-entropy; (batch, classes), (batch, classes) -> (batch,)."""
    return keras.losses.categorical_crossentropy(targets, logits, from_logits=True)


def sigmoid(targets: KerasTensor, logits: KerasTensor) -> KerasTensor:
    """Binary cross-entropy of each class, summed over the classes, as in big_vision."""
    return ops.sum(ops.binary_crossentropy(targets, logits, from_logits=True), axis=-1)


def sigmoid_any(targets: KerasTensor, logits: KerasTensor) -> KerasTensor:
    """Mean binary cross-entropy; each class with a target above 0 counts as present.

    DeiT III's engine.py treats the labels of MixUp and CutMix like this. Use it without label
    smoothing.
    """
    present = ops.cast(targets > 0, logits.dtype)
    return ops.mean(ops.binary_crossentropy(present, logits, from_logits=True), axis=-1)


LOSSES = {"softmax": softmax, "sigmoid": sigmoid, "sigmoid-any": sigmoid_any}
