"""Examples + recipe -> batches of normalised images and class probabilities."""

import functools
import itertools
import math
import sys
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from training.augment_images import fold_in
from training.examples import Examples
from vit_keras.decoding import why_undecodable
from vit_keras.errors import InputError
from vit_keras.masked import visible_patches

PARALLEL = tf.data.AUTOTUNE


def read_all(examples, cache_mib=0, short_side=None):
    """Decodes every image once, to find the unreadable ones and to keep small sets in memory.

    Args:
        examples: Examples.
        cache_mib: MiB of decoded pixels that may be kept.
        short_side: pixels; images to keep are shrunk to it where their shorter side is longer.

    Returns:
        The readable Examples, from memory if they fit, and {name: reason} of the others.

    Raises:
        InputError: where no image can be read.
    """
    if examples.pixels is not None:
        return examples, {}
    dataset = tf.data.Dataset.range(len(examples))
    dataset = dataset.map(lambda i: (i, shrink(examples.read(i), short_side)), PARALLEL)
    dataset = dataset.ignore_errors().prefetch(PARALLEL)
    progress = keras.utils.Progbar(
        len(examples), unit_name="image", verbose=int(sys.stdout.isatty())
    )
    readable, images, room = [], [], cache_mib * 2**20
    for index, image in dataset.as_numpy_iterator():
        readable.append(index)
        room -= image.nbytes
        if room >= 0:
            images.append(image)
        progress.update(len(readable), finalize=False)
    progress.update(len(examples), finalize=True)
    unreadable = np.setdiff1d(np.arange(len(examples)), readable)
    reasons = {examples.names[index]: _reason(examples, index) for index in unreadable}
    if not readable:
        name, reason = next(iter(reasons.items()))
        raise InputError(f"none of {len(examples)} images can be read: {name}: {reason}, ...")
    examples = examples.subset(np.array(readable, "int64"))
    return (_in_memory(examples, images) if room >= 0 else examples), reasons


def shrink(image, short_side):
    """uint8 (height, width, channels) -> the same, its shorter side at most `short_side` pixels.

    None keeps every size.
    """
    if short_side is None:
        return image
    size = tf.shape(image)[:2]
    scale = short_side / tf.reduce_min(size)

    def smaller():
        target = tf.cast(tf.round(tf.cast(size, tf.float64) * scale), tf.int32)
        resized = tf.image.resize(image, tf.maximum(target, 1), antialias=True)
        return tf.saturate_cast(tf.round(resized), tf.uint8)

    resized = tf.cond(scale < 1, smaller, lambda: image)
    return tf.ensure_shape(resized, (None, None, image.shape[-1]))


class Share(NamedTuple):
    """Which replicas of a run a process has: those from `first` on, `own` of `all` of them."""

    first: int = 0
    own: int = 1
    all: int = 1


ALONE = Share()


def block_size(batch_size):
    """Images that are augmented together: a quarter of a batch, within 8..32, that divides it.

    Whole batches where no such number does. Replicas share a batch by whole blocks, so that it is
    the same however many there are.
    """
    most = min(32, max(8, batch_size // 4))
    return next((size for size in range(most, 7, -1) if batch_size % size == 0), batch_size)


def training_batches(
    examples, recipe, preprocessing, steps, first=0, taught=None, grid=None, share=ALONE, service=""
):
    """The batches of a run from number `first` up to `steps`.

    Each is a pure function of the seed and its number. Every image comes once (with recipe.repeats
    several times, one after another) before any comes again, in an order which changes each time;
    with recipe.balance "sampling" that is so within a class, and classes come equally often.

    Args:
        taught: float32 (count, classes), probabilities a teacher has given to the examples.
        grid: (rows, columns) of patches, for recipe.pretrain.
        share: of each batch, the parts of these replicas, one after another; `share.all` parts are
            a batch.
        service: address of a tf.data service whose workers do the work. They give the blocks of
            these steps once each, in any order.

    Returns:
        tf.data.Dataset of (float32 (batch_size, height, width, channels), normalised;
        float32 (batch_size, classes), rows that sum to one) and, with recipe.balance "weights",
        float32 (batch_size,), how much each image counts. With `taught`, its rows, mixed as the
        labels are, stand behind the labels': (batch_size, 2 * classes). With recipe.pretrain what
        `masked_batches` gives.

    Raises:
        InputError: where the batch cannot be shared by whole blocks.
    """
    block = block_size(recipe.batch_size)
    blocks, uneven = divmod(recipe.batch_size, block * share.all)
    if uneven:
        larger = itertools.count(-(-recipe.batch_size // 8) * 8, 8)
        fits = next(size for size in larger if size % (block_size(size) * share.all) == 0)
        raise InputError(
            f"batch_size={recipe.batch_size} cannot be shared by {share.all} replicas in blocks of "
            f"{block} images; try --set batch_size={fits}."
        )
    hide = _mask(recipe, grid) if grid else None
    labels = tf.constant(examples.labels)
    classes = len(examples.class_names)
    order = _by_class(examples) if recipe.balance == "sampling" else _shuffled
    order = functools.partial(order, count=len(examples), seed=recipe.seed)
    class_weights = tf.constant(balanced_weights(examples), tf.float32)
    answered = None if taught is None else tf.constant(taught)

    def number(index):
        """Of the blocks of this share -> of all blocks of the run"""
        step, part = index // (share.own * blocks), index % (share.own * blocks)
        return ((first + step) * share.all + share.first) * blocks + part

    def gather(index):
        positions = number(index) * block + tf.range(block, dtype=tf.int64)
        chosen = order(positions // recipe.repeats)
        return tf.gather(pixels, chosen), chosen

    def read(position):
        index = order(position // recipe.repeats)
        image = examples.read(index)
        seed = tf.stack([recipe.seed, tf.cast(position, tf.int32)])
        if recipe.train_crop:
            image = recipe.train_crop(image, preprocessing.image_size, seed)
            image.set_shape((*preprocessing.image_size, recipe.channels))
        else:
            image = preprocessing.to_size(image)
        for place, augment in enumerate(recipe.augment_images):
            image = augment(image, fold_in(seed, 1 + place))
        return image, index

    def finish(index, images, chosen):
        images = tf.cast(images, tf.float32)
        answers = tf.one_hot(tf.gather(labels, chosen), classes)
        if answered is not None:
            answers = tf.concat([answers, tf.gather(answered, chosen)], axis=1)
        seed = tf.stack([recipe.seed, tf.cast(number(index), tf.int32)])
        for place, augment in enumerate(recipe.augment):
            images, answers = augment(images, answers, fold_in(seed, 100 + place))
        images = preprocessing.normalise(images)
        if hide:
            return hide(images, seed)
        shares, smooth = answers[:, :classes], recipe.label_smoothing
        targets = (1 - smooth) * shares + smooth / classes
        if answered is not None:
            targets = tf.concat([targets, answers[:, classes:]], axis=1)
        if recipe.balance == "weights":
            return images, targets, tf.linalg.matvec(shares, class_weights)
        return images, targets

    pixels = examples.pixels
    at_hand = pixels is not None and preprocessing.keeps(pixels.shape)
    # One source, so that a data service can share it among its workers.
    indices = tf.data.Dataset.range((steps - first) * share.own * blocks)
    if at_hand and not (recipe.train_crop or recipe.augment_images):
        finished = indices.map(lambda index: finish(index, *gather(index)), PARALLEL)
    else:

        def one_block(index):
            begin = number(index) * block
            images = tf.data.Dataset.range(begin, begin + block).map(read, PARALLEL)
            images = images.batch(block, drop_remainder=True)
            return images.map(lambda *drawn: finish(index, *drawn))

        finished = indices.interleave(one_block, 4, 1, PARALLEL, deterministic=True)
    if service:
        once = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        finished = finished.apply(tf.data.experimental.service.distribute(once, service))
    batches = finished.rebatch(blocks * block, drop_remainder=True)
    return batches.prefetch(PARALLEL)


def model_batches(model, examples, recipe, steps, first=0, taught=None, share=ALONE, service=""):
    """`training_batches` of a run as its model takes them: masked, where it learns to fill in."""
    grid = None if recipe.pretrain == "none" else model.config.grid
    return training_batches(
        examples, recipe, model.preprocessing, steps, first, taught, grid, share, service
    )


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
    hide = _mask(recipe, grid)

    def add(number, batch):
        # Numbers below 0, so that no block of training images has the same.
        return hide(batch[0], tf.stack([recipe.seed, -1 - tf.cast(number, tf.int32)]))

    return batches.enumerate().map(add, PARALLEL).prefetch(PARALLEL)


def _mask(recipe, grid):
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


def balanced_weights(examples):
    """How much an image of each class counts so that all classes count alike, 1 on average."""
    counts = np.bincount(examples.labels, minlength=len(examples.class_names))
    return len(examples) / (len(counts) * np.maximum(counts, 1))


def _shuffled(position, count, seed, stream=0):
    """int64 positions in the stream of all epochs -> indices below count, each once an epoch"""
    position, count, stream = (tf.cast(number, tf.int64) for number in (position, count, stream))
    epoch = tf.cast(position // count, tf.int32)
    streams = tf.broadcast_to(tf.cast(stream, tf.int32), tf.shape(epoch))
    seeds = tf.stack([tf.fill(tf.shape(epoch), seed), epoch, streams], axis=-1)
    # tf.random.experimental.index_shuffle refuses one seed for each index. With 4 rounds, the
    # default, and seed 0, half of 100 images would stay where they are.
    return tf.raw_ops.RandomIndexShuffle(
        index=position % count, seed=seeds, max_index=count - 1, rounds=16
    )


def _by_class(examples):
    """A function like `_shuffled` that gives every class in turn, in an order that changes"""
    counts = np.bincount(examples.labels, minlength=len(examples.class_names))
    classes = tf.constant(np.flatnonzero(counts))
    members = tf.constant(np.argsort(examples.labels, kind="stable"))
    counts, starts = tf.constant(counts), tf.constant(np.cumsum(counts) - counts)

    def order(position, count, seed):
        turn = position // len(classes)
        label = tf.gather(classes, _shuffled(position, len(classes), seed, stream=1))
        size = tf.gather(counts, label)
        return tf.gather(
            members, tf.gather(starts, label) + _shuffled(turn, size, seed, stream=2 + label)
        )

    return order


def evaluation_batches(examples, preprocessing, batch_size, cache_mib=0):
    """Every example once, in order, as `predict` and an exported model see it.

    Args:
        cache_mib: MiB of memory for the finished images, to be used again by the next pass.

    Returns:
        tf.data.Dataset like `training_batches`' with a smaller last batch.
    """
    labels = tf.one_hot(examples.labels, len(examples.class_names))

    def read(index):
        return preprocessing(examples.read(index)), labels[index]

    dataset = tf.data.Dataset.range(len(examples)).map(read, PARALLEL)
    height, width = preprocessing.image_size
    if len(examples) * height * width * preprocessing.channels * 4 <= cache_mib * 2**20:
        dataset = dataset.cache()
    return dataset.batch(batch_size).prefetch(PARALLEL)


def even_batch_size(count, largest):
    """A batch size of at most `largest` that divides `count`, if one above half of it does.

    A last batch of another shape would be compiled anew.
    """
    divisors = (size for size in range(largest, largest // 2, -1) if count % size == 0)
    return min(count, next(divisors, largest))


def _in_memory(examples, images):
    shapes = np.array([image.shape for image in images], "int64")
    if (shapes == shapes[0]).all():
        return Examples.from_pixels(
            np.stack(images), examples.labels, examples.class_names, examples.names
        )
    sizes = shapes.prod(axis=1)
    flat = tf.constant(np.concatenate([image.ravel() for image in images]))
    starts, sizes, shapes = map(tf.constant, (np.cumsum(sizes) - sizes, sizes, shapes))

    def read(index):
        pixels = tf.slice(flat, starts[index, tf.newaxis], sizes[index, tf.newaxis])
        image = tf.reshape(pixels, shapes[index])
        return tf.ensure_shape(image, (None, None, images[0].shape[-1]))

    return Examples(examples.labels, examples.class_names, examples.names, read)


def _reason(examples, index):
    try:
        examples.read(tf.constant(index))
    except tf.errors.OpError as error:
        return why_undecodable(error)
    return "readable at the second try"
