"""Targets and logits -> the loss of each image: the table LOSSES."""

import keras
from keras import ops


def softmax(targets, logits):
    """Cross-entropy; (batch, classes), (batch, classes) -> (batch,)"""
    return keras.losses.categorical_crossentropy(targets, logits, from_logits=True)


def sigmoid(targets, logits):
    """Binary cross-entropy of each class, summed over the classes, as in big_vision."""
    return ops.sum(ops.binary_crossentropy(targets, logits, from_logits=True), axis=-1)


def sigmoid_any(targets, logits):
    """Mean over the classes, of which each that has a share in the image counts as wholly there.

    DeiT III's engine.py does so to the labels of MixUp and CutMix. Without label smoothing.
    """
    present = ops.cast(targets > 0, logits.dtype)
    return ops.mean(ops.binary_crossentropy(present, logits, from_logits=True), axis=-1)


LOSSES = {"softmax": softmax, "sigmoid": sigmoid, "sigmoid-any": sigmoid_any}
