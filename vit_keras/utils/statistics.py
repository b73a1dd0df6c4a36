"""Who was right about which image -> how much accuracy changes."""

import numpy as np


def change_of_accuracy(before, after):
    """How much accuracy changes between two classifiers, or groups of them, on the same images.

    Args:
        before, after: bool (count,), whether each was right about each image; or (runs, count).

    Returns:
        (the change, the lower and the upper end of its 95 % confidence interval for other images
        and these very classifiers), fractions. The interval is that of Agresti and Min for matched
        pairs (Statistics in Medicine 24, 2005): Wald's, with half an image more in each of the four
        cells of the table. Of a group, an image may be right in a part of the runs.
    """
    changes = np.mean(np.atleast_2d(after), axis=0) - np.mean(np.atleast_2d(before), axis=0)
    count = len(changes) + 2
    middle = changes.sum() / count
    half = 1.96 * np.sqrt((((changes**2).sum() + 1) / count - middle**2) / count)
    ends = max(-1.0, middle - half), min(1.0, middle + half)
    return float(changes.mean()), *map(float, ends)
