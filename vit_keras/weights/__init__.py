"""Published checkpoint -> model and back: one name table for each family."""

from vit_keras.weights.assign import LoadReport
from vit_keras.weights.assumption import Assumption
from vit_keras.weights.load import from_weights, load_weights
from vit_keras.weights.published import PUBLISHED, Published
from vit_keras.weights.save import save_weights

__all__ = [
    "PUBLISHED",
    "Assumption",
    "LoadReport",
    "Published",
    "from_weights",
    "load_weights",
    "save_weights",
]
