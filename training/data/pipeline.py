"""Examples + recipe -> batches of normalised images and class probabilities."""

import functools
import itertools

import tensorflow as tf

from training.augment.images import fold_in
from training.data.masking import mask_function
from training.data.sampling import ALONE, balanced_weights, block_size, by_class, shuffled
from vit_keras.utils.errors import InputError


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
    hide = mask_function(recipe, grid) if grid else None
    labels = tf.constant(examples.labels)
    classes = len(examples.class_names)
    order = by_class(examples) if recipe.balance == "sampling" else shuffled
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
        finished = indices.map(lambda index: finish(index, *gather(index)), tf.data.AUTOTUNE)
    else:

        def one_block(index):
            begin = number(index) * block
            images = tf.data.Dataset.range(begin, begin + block).map(read, tf.data.AUTOTUNE)
            images = images.batch(block, drop_remainder=True)
            return images.map(lambda *drawn: finish(index, *drawn))

        finished = indices.interleave(one_block, 4, 1, tf.data.AUTOTUNE, deterministic=True)
    if service:
        once = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        finished = finished.apply(tf.data.experimental.service.distribute(once, service))
    batches = finished.rebatch(blocks * block, drop_remainder=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def model_batches(model, examples, recipe, steps, first=0, taught=None, share=ALONE, service=""):
    """`training_batches` of a run as its model takes them: masked, where it learns to fill in."""
    grid = None if recipe.pretrain == "none" else model.config.grid
    return training_batches(
        examples, recipe, model.preprocessing, steps, first, taught, grid, share, service
    )


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

    dataset = tf.data.Dataset.range(len(examples)).map(read, tf.data.AUTOTUNE)
    height, width = preprocessing.image_size
    if len(examples) * height * width * preprocessing.channels * 4 <= cache_mib * 2**20:
        dataset = dataset.cache()
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def even_batch_size(count, largest):
    """A batch size of at most `largest` that divides `count`, if one above half of it does.

    A last batch of another shape would be compiled anew.
    """
    divisors = (size for size in range(largest, largest // 2, -1) if count % size == 0)
    return min(count, next(divisors, largest))
