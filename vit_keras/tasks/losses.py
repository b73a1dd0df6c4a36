"""Losses of single images -> their mean, weighted, and shared among replicas as Keras does it."""

import keras


class AsGiven(keras.losses.Loss):
    """`AsGiven()(losses, losses, sample_weight)`: the mean of (batch,) losses.

    A model that computes its own loss has to reduce it so, to learn alike under tf.distribute.
    """

    def call(self, y_true, y_pred):
        return y_pred
