"""Grid of patches -> position table: fixed sine-cosine, or learned and resized to another grid."""

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


def resize_positions(table, old_grid, new_grid, how):
    """Resizes a learned table of positions to another grid; rows before the patches' are kept.

    Args:
        table: (prefix + old rows * old columns, width).
        old_grid, new_grid: (rows, columns).
        how: a key of RESIZES.

    Returns:
        float32 array (prefix + new rows * new columns, width).
    """
    if old_grid == new_grid:
        return table
    prefix = len(table) - old_grid[0] * old_grid[1]
    grid = table[prefix:].reshape(*old_grid, -1)
    down, across = (
        resize_matrix(old, new, how) for old, new in zip(old_grid, new_grid, strict=True)
    )
    grid = np.einsum("ry,cx,yxd->rcd", down, across, grid, optimize=True)
    return np.concatenate([table[:prefix], grid.reshape(-1, table.shape[1])]).astype("float32")


def resize_patches(kernel, size, how):
    """Resamples a patch kernel so that resized images keep their tokens, by the pseudo-inverse.

    FlexiViT, arXiv:2212.08013, section 3.4: the kernel w' with resize(patch) . w' = patch . w for
    every patch, when patches grow, and the nearest to it when they shrink.

    Args:
        kernel: (height, width, channels, tokens' width).
        size: pixels, the side of the new patches.
        how: a key of RESIZES, the resizing that the patches would undergo.

    Returns:
        float32 array (size, size, channels, tokens' width).
    """
    if kernel.shape[0] == kernel.shape[1] == size:
        return kernel
    down, across = (np.linalg.pinv(resize_matrix(old, size, how).T) for old in kernel.shape[:2])
    return np.einsum("ry,cx,yxio->rcio", down, across, kernel, optimize=True).astype("float32")


def resize_matrix(old, new, how):
    """The (new, old) matrix that resizes one axis of a grid.

    Args:
        old, new: lengths of the axis.
        how: a key of RESIZES.
    """
    kernel, support, antialias, corners = RESIZES[how]
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    if corners:
        centres = np.linspace(0, old - 1, new)
    stretch = max(1.0, old / new) if antialias else 1.0
    reach = int(np.ceil(support * stretch)) + 1
    taps = np.floor(centres)[:, None] + np.arange(-reach, reach + 1)  # (new, taps)
    weights = kernel((taps - centres[:, None]) / stretch)
    if antialias:  # what lies outside is left out; otherwise it repeats the border
        weights = np.where((taps >= 0) & (taps < old), weights, 0.0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((new, old))
    rows = np.broadcast_to(np.arange(new)[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, old - 1).astype(int)), weights)
    return matrix


def _linear(x):
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(a):
    """Keys's cubic convolution, IEEE Trans. ASSP 29 (6), 1981."""

    def kernel(x):
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    return kernel


# Name -> kernel, its support on either side, antialiased when shrinking, corners on corners.
RESIZES = {
    # Google's: scipy.ndimage.zoom(order=1), vision_transformer's checkpoint.py.
    "corners": (_linear, 1, False, True),
    # DeiT, MAE and Hugging Face: torch's interpolate(mode="bicubic").
    "bicubic": (_cubic(-0.75), 2, False, False),
    # timm: torch's interpolate(mode="bicubic", antialias=True).
    "bicubic_antialias": (_cubic(-0.5), 2, True, False),
    # FlexiViT: jax.image.resize(method="linear").
    "linear_antialias": (_linear, 1, True, False),
    # Patch kernels of Google's and FlexiViT's: tf.image.resize.
    "linear": (_linear, 1, False, False),
}
