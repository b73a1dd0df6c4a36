"""Correct answers of two classifiers -> the change of accuracy between them."""

import numpy as np
from numpy.typing import ArrayLike


def change_of_accuracy(before: ArrayLike, after: ArrayLike) -> tuple[float, float, float]:
    """Computes the change of accuracy between two classifiers, or groups, on the same images.

    Args:
        before: bool (count,), whether the first classifier is right about each image; or (runs,
            count) for a group.
        after: the same for the second.

    Returns:
        (change, lower end, upper end), fractions; the ends are those of the 95 % confidence
        interval for other images and these classifiers. The interval is that of Agresti and Min
        for matched pairs (Statistics in Medicine 24, 2005): Wald's, with half an image more in each
        of the four cells of the table. In a group, an image may be right in some of the runs.
    """
    changes = np.mean(np.atleast_2d(after), axis=0) - np.mean(np.atleast_2d(before), axis=0)
    count = len(changes) + 2
    middle = changes.sum() / count
    half = 1.96 * np.sqrt((((changes**2).sum() + 1) / count - middle**2) / count)
    lower, upper = max(-1.0, middle - half), min(1.0, middle + half)
    return float(changes.mean()), float(lower), float(upper)
