"""Images -> what a masked model takes: images, and which of their patches to hide."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from training.augment.images import fold_in
from training.rules import AT_LEAST_1, INNER_FRACTION, check_fields
from vit_keras.tasks.masked import visible_patches
from vit_keras.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class MaskingOptions:
    """Masked pre-training, tasks "mae" (arXiv:2111.06377) and "mim" (SimMIM, arXiv:2111.09886).

    Attributes:
        mask_ratio: fraction of the patches that are hidden.
        mask_unit: patches, the side of the squares that are hidden or shown as a whole; "mae",
            which hides the same number of patches in every image, cuts one of them.
        decoder: further fields of the DecoderConfig of "mae"; --set decoder.FIELD=VALUE.
        sheet_every: epochs between two pictures of reconstructed images.
    """

    mask_ratio: float = 0.75
    mask_unit: int = 1
    decoder: dict[str, Any] = dataclasses.field(default_factory=dict)
    sheet_every: int = 10

    def __post_init__(self) -> None:
        check_fields(
            self,
            {"mask_unit": AT_LEAST_1, "sheet_every": AT_LEAST_1, "mask_ratio": INNER_FRACTION},
        )


def random_noise(masking: MaskingOptions, grid: tuple[int, int]) -> Callable:
    """Draws the noise by which a masked autoencoder chooses the patches it hides.

    Args:
        masking: MaskingOptions.
        grid: (rows, columns) of patches.

    Returns:
        Function (images, seed) -> {"images", "noise": float32 (batch, patches)}.

    Raises:
        InputError: where one square of mask_unit covers the image.
    """
    units = _units(masking, grid)

    def draw(images, seed):
        noise = _uniform(images, seed, units)
        return {"images": images, "noise": _to_patches(noise, units, masking.mask_unit, grid)}

    return draw


def random_mask(masking: MaskingOptions, grid: tuple[int, int]) -> Callable:
    """Draws which patches are hidden from a masked image model.

    Args:
        masking: MaskingOptions.
        grid: (rows, columns) of patches.

    Returns:
        Function (images, seed) -> {"images", "masked": float32 (batch, patches), 1 for hidden
        patches}.

    Raises:
        InputError: where one square of mask_unit covers the image.
    """
    units = _units(masking, grid)
    visible = visible_patches(math.prod(units), masking.mask_ratio)

    def draw(images, seed):
        rank = tf.argsort(tf.argsort(_uniform(images, seed, units)))
        masked = tf.cast(rank >= visible, tf.float32)
        return {"images": images, "masked": _to_patches(masked, units, masking.mask_unit, grid)}

    return draw


def masked_batches(batches: tf.data.Dataset, draw: Callable, seed: int) -> tf.data.Dataset:
    """Turns batches of images into batches for a masked model, for validation.

    What is hidden is a pure function of the seed and the batch's number.

    Args:
        batches: tf.data.Dataset of (images, ...).
        draw: from `random_noise` or `random_mask`.
        seed: of the run.
    """

    def add(number, batch):
        # Numbers below 0: blocks of training images have numbers from 0 on.
        return draw(batch[0], tf.stack([seed, -1 - tf.cast(number, tf.int32)]))

    return batches.enumerate().map(add, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _units(masking, grid):
    """(rows, columns) of the squares of mask_unit patches."""
    units = tuple(math.ceil(side / masking.mask_unit) for side in grid)
    if units == (1, 1):
        rows, columns = grid
        raise InputError(
            f"mask_unit={masking.mask_unit} leaves one square of {rows}x{columns} patches."
        )
    return units


def _uniform(images, seed, units):
    """Random numbers in [0, 1), (batch, squares)."""
    shape = tf.shape(images)[0], math.prod(units)
    return tf.random.stateless_uniform(shape, fold_in(seed, 1000))


def _to_patches(squares, units, unit, grid):
    """(batch, squares) -> (batch, patches), every patch with the value of its square."""
    rows, columns = grid
    squares = tf.reshape(squares, (-1, *units))
    patches = tf.repeat(tf.repeat(squares, unit, axis=1), unit, axis=2)
    return tf.reshape(patches[:, :rows, :columns], (-1, rows * columns))
