"""Grid of patches -> position table: the fixed sine-cosine one."""

import numpy as np


def sincos2d(rows, columns, width, temperature=10_000.0):
    """The fixed position table of SimpleViT (arXiv:2205.01580, section 2).

    Each patch gets [sin x, cos x, sin y, cos y] at width / 4 frequencies, which fall
    geometrically from 1 to 1 / temperature.

    Args:
        rows, columns: the grid of patches.
        width: D, divisible by 4.
        temperature: ratio of the highest to the lowest frequency.

    Returns:
        float32 array (rows * columns, width), patches row by row.
    """
    frequencies = 1.0 / temperature ** np.linspace(0, 1, width // 4)
    y, x = np.mgrid[:rows, :columns]
    x = x.reshape(-1, 1) * frequencies  # (patches, width / 4)
    y = y.reshape(-1, 1) * frequencies
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1).astype("float32")
