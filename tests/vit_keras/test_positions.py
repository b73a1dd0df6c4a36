"""Position tables and patch kernels are resized as SciPy, Pillow and the paper's formula do."""

import itertools

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from support import numpy_vit

from vit_keras.layers.positions import (
    RESIZES,
    resize_matrix,
    resize_patches,
    resize_positions,
    sincos2d,
)

RANDOM = np.random.default_rng(0)
GRIDS = [((4, 4), (7, 5)), ((6, 3), (3, 6)), ((14, 14), (24, 24)), ((5, 5), (1, 2))]


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_corners_equals_scipy_zoom(old, new):
    table = RANDOM.standard_normal((old[0] * old[1], 3)).astype("float32")

    zoom = [n / o for o, n in zip(old, new, strict=True)]
    expected = ndimage.zoom(table.reshape(*old, 3).astype("float64"), (*zoom, 1), order=1)

    resized = resize_positions(table, old, new, "corners").reshape(*new, 3)
    np.testing.assert_allclose(resized, expected, atol=1e-6)


@pytest.mark.parametrize(("old", "new"), GRIDS)
@pytest.mark.parametrize(
    ("method", "pillow_filter"),
    [
        ("bicubic_antialias", Image.Resampling.BICUBIC),  # Pillow's a is -0.5, too
        ("linear_antialias", Image.Resampling.BILINEAR),
    ],
)
def test_antialiased_resizes_equal_pillow(method, pillow_filter, old, new):
    table = RANDOM.standard_normal((old[0] * old[1], 1)).astype("float32")
    image = Image.fromarray(table.reshape(old))

    expected = np.asarray(image.resize(new[::-1], pillow_filter))

    resized = resize_positions(table, old, new, method).reshape(new)
    np.testing.assert_allclose(resized, expected, atol=1e-5)


def test_cubic_weights_by_hand():
    # Twice as long: the first centre lies at 0.25 - 0.5 = -0.25, between the repeated border (-2,
    # -1 and 0, at distances 1.75, 0.75, 0.25) and 1 (at 1.25). Keys's kernel with a = -0.75:
    def near(x):
        return 1.25 * x**3 - 2.25 * x**2 + 1

    def far(x):
        return -0.75 * x**3 + 3.75 * x**2 - 6 * x + 3

    border = far(1.75) + near(0.75) + near(0.25)

    matrix = resize_matrix(2, 4, "bicubic")

    np.testing.assert_allclose(matrix[0], [border, far(1.25)], atol=1e-12)
    np.testing.assert_allclose(matrix[0], matrix[3][::-1], atol=1e-12)


@pytest.mark.parametrize("method", RESIZES)
def test_every_resize_preserves_constants_and_is_the_identity_for_equal_sizes(method):
    for old, new in itertools.product((1, 4, 14), (1, 7, 24)):
        np.testing.assert_allclose(resize_matrix(old, new, method).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(resize_matrix(9, 9, method), np.eye(9), atol=1e-12)


def test_rows_of_the_prefix_do_not_change():
    table = RANDOM.standard_normal((2 + 9, 4)).astype("float32")

    resized = resize_positions(table, (3, 3), (2, 5), "bicubic")

    assert resized.shape == (2 + 10, 4)
    np.testing.assert_array_equal(resized[:2], table[:2])


def test_larger_patches_of_resized_images_give_the_old_tokens():
    kernel = RANDOM.standard_normal((4, 4, 3, 5)).astype("float32")
    patch = RANDOM.standard_normal((4, 4, 3))
    matrix = resize_matrix(4, 7, "linear")
    larger = np.einsum("ry,cx,yxi->rci", matrix, matrix, patch)

    resampled = resize_patches(kernel, 7, "linear")

    tokens = np.einsum("yxi,yxio->o", patch, kernel)
    np.testing.assert_allclose(np.einsum("yxi,yxio->o", larger, resampled), tokens, atol=1e-5)


def test_fixed_positions_equal_big_visions_formula_bit_by_bit():
    for rows, columns, width in ((3, 5, 32), (14, 14, 384), (16, 20, 1280)):
        expected = numpy_vit.sincos(rows, columns, width).astype("float32")
        np.testing.assert_array_equal(sincos2d(rows, columns, width), expected)


def test_fixed_positions_by_hand():
    table = sincos2d(rows=2, columns=2, width=8)

    assert table.shape == (4, 8)
    # Frequencies 1 and 1/10,000; the third patch is x = 0, y = 1.
    slow = 1e-4
    expected = [0, 0, 1, 1, np.sin(1), np.sin(slow), np.cos(1), np.cos(slow)]
    np.testing.assert_allclose(table[2], expected, atol=1e-7)
    np.testing.assert_allclose(table[1], [*expected[4:], 0, 0, 1, 1], atol=1e-7)
