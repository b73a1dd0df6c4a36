"""Batches of images -> batches for a masked model, with the patches to hide."""

import math

import tensorflow as tf

from training.augment.images import fold_in
from vit_keras.tasks.masked import visible_patches
from vit_keras.utils.errors import InputError


def masked_batches(batches, recipe, grid):
    """Batches of images and whatever else -> batches for a masked model, without labels.

    They are for validation: what is hidden is a pure function of the seed and the batch's number.

    Args:
        batches: tf.data.Dataset of (images, ...).
        recipe: Recipe with `pretrain`.
        grid: (rows, columns) of patches.

    Returns:
        tf.data.Dataset of {"images", "noise": float32 (batch, patches)} for "mae", and of
        {"images", "masked": the same, 1 for patches to hide} for "mim".
    """
    hide = mask_function(recipe, grid)

    def add(number, batch):
        # Numbers below 0, so that no block of training images has the same.
        return hide(batch[0], tf.stack([recipe.seed, -1 - tf.cast(number, tf.int32)]))

    return batches.enumerate().map(add, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def mask_function(recipe, grid):
    """A function (images, seed) -> what a masked model takes"""
    (rows, columns), unit = grid, recipe.mask_unit
    units = -(-rows // unit), -(-columns // unit)
    if units == (1, 1):
        raise InputError(f"mask_unit={unit} leaves one square of {rows}x{columns} patches.")

    def to_patches(squares):
        squares = tf.reshape(squares, (-1, *units))
        patches = tf.repeat(tf.repeat(squares, unit, axis=1), unit, axis=2)
        return tf.reshape(patches[:, :rows, :columns], (-1, rows * columns))

    def hide(images, seed):
        shape = tf.shape(images)[0], math.prod(units)
        noise = tf.random.stateless_uniform(shape, fold_in(seed, 1000))
        if recipe.pretrain == "mae":
            return {"images": images, "noise": to_patches(noise)}
        rank = tf.argsort(tf.argsort(noise))
        masked = rank >= visible_patches(math.prod(units), recipe.mask_ratio)
        return {"images": images, "masked": to_patches(tf.cast(masked, tf.float32))}

    return hide
