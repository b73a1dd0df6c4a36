"""Published checkpoint -> model and back: one name table for each family."""

from vit_keras.weights.load import LoadReport, from_weights, load_weights

__all__ = ["LoadReport", "from_weights", "load_weights"]
