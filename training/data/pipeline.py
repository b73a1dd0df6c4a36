"""Examples + recipe -> batches of normalised images and targets."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import tensorflow as tf

from training.augment.images import fold_in
from training.data.examples import Examples
from training.data.sampling import ALONE, Share, block_size, by_class, shuffled
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.utils.errors import InputError

if TYPE_CHECKING:
    from training.recipe import Recipe


class Targets(Protocol):
    """What a task learns from training images; a task makes one for its training examples."""

    def rows(self, indices: tf.Tensor) -> tf.Tensor:
        """Int64 (count,), indices of examples -> float32 (count, columns).

        Augmentations that mix images mix these rows in the same way.
        """

    def finish(self, images: tf.Tensor, rows: tf.Tensor, seed: tf.Tensor) -> Any:
        """Normalised images and their mixed rows -> an element of a dataset for `fit`.

        Args:
            images: float32 (count, height, width, channels), normalised.
            rows: float32 (count, columns).
            seed: int32 (2,).
        """


def training_batches(
    examples: Examples,
    recipe: "Recipe",
    preprocessing: Preprocessing,
    targets: Targets,
    share: Share = ALONE,
    *,
    first: int = 0,
    last: int,
    service: str = "",
) -> tf.data.Dataset:
    """The batches of a run from step `first` up to step `last`.

    Each batch is a pure function of the seed and its number. Every image comes once (with
    repeated augmentation several times in a row) before any comes again, in an order that changes
    each time. With balance "sampling" this holds within a class, and classes come equally often.

    Args:
        examples: Examples to train on.
        recipe: Recipe.
        preprocessing: Preprocessing of the model.
        targets: Targets of the recipe's task for the examples.
        share: the part of each batch that the replicas of this process compute.
        first: number of the first step.
        last: number of the last step + 1.
        service: address of a tf.data service whose workers do the work. They return each block of
            these steps once, in any order.

    Returns:
        tf.data.Dataset of what `targets.finish` returns, the batch of one replica in each element:
        batch_size / share.all images.

    Raises:
        InputError: where a batch cannot be divided into whole blocks for the replicas.
    """
    blocks = _Blocks(examples, recipe, preprocessing, targets, share, first)
    # One source dataset, so that a data service can divide it among its workers.
    indices = tf.data.Dataset.range((last - first) * blocks.per_step)
    if blocks.gather_pixels:
        dataset = indices.map(blocks.from_memory, tf.data.AUTOTUNE)
    else:
        dataset = indices.interleave(blocks.from_files, 4, 1, tf.data.AUTOTUNE, deterministic=True)
    if service:
        once = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        dataset = dataset.apply(tf.data.experimental.service.distribute(once, service))
    batches = dataset.rebatch(blocks.per_replica * blocks.size, drop_remainder=True)
    return batches.prefetch(tf.data.AUTOTUNE)


class _Blocks:
    """Number of a block -> its images, augmented, and their targets.

    Attributes:
        size: images in a block; they are augmented together.
        per_replica: blocks of a replica for each step.
        per_step: blocks of this process for each step.
        gather_pixels: whether blocks are cut from images in memory, all of the model's size.
    """

    def __init__(
        self,
        examples: Examples,
        recipe: "Recipe",
        preprocessing: Preprocessing,
        targets: Targets,
        share: Share,
        first: int,
    ) -> None:
        batch_size = recipe.optimization.batch_size
        self.examples = examples
        self.augmentation = recipe.augmentation
        self.seed = recipe.execution.seed
        self.preprocessing = preprocessing
        self.targets = targets
        self.share = share
        self.first = first
        self.size = block_size(batch_size)
        self.per_replica = _blocks_per_replica(batch_size, share.all)
        self.per_step = share.own * self.per_replica
        balanced = recipe.data.balance == "sampling"
        order = by_class(examples) if balanced else shuffled
        self.order: Callable = functools.partial(order, count=len(examples), seed=self.seed)
        pixels = examples.pixels
        resized = self.augmentation.train_crop or self.augmentation.augment_images
        self.gather_pixels = (
            pixels is not None and preprocessing.keeps(pixels.shape) and not resized
        )

    def from_memory(self, index):
        """A block whose images are gathered from memory."""
        positions = self._number(index) * self.size + tf.range(self.size, dtype=tf.int64)
        chosen = self._example_of(positions)
        return self._finish(index, tf.gather(self.examples.pixels, chosen), chosen)

    def from_files(self, index):
        """A dataset of one block, whose images are decoded in parallel."""
        begin = self._number(index) * self.size
        images = tf.data.Dataset.range(begin, begin + self.size)
        images = images.map(self._read, tf.data.AUTOTUNE).batch(self.size, drop_remainder=True)
        return images.map(lambda images, chosen: self._finish(index, images, chosen))

    def _number(self, index):
        """Number among the blocks of this process -> number among all blocks of the run."""
        step, part = index // self.per_step, index % self.per_step
        offset = self.share.first * self.per_replica
        return (self.first + step) * self.share.all * self.per_replica + offset + part

    def _example_of(self, position):
        """Position in the stream of training images -> index of an example."""
        return self.order(position // self.augmentation.repeated_augmentation)

    def _read(self, position):
        """Position in the stream of training images -> its augmented image, and its example."""
        index = self._example_of(position)
        image = self.examples.read(index)
        seed = tf.stack([self.seed, tf.cast(position, tf.int32)])
        if self.augmentation.train_crop:
            size = self.preprocessing.image_size
            image = self.augmentation.train_crop(image, size, seed)
            image.set_shape((*size, self.preprocessing.channels))
        else:
            image = self.preprocessing.to_size(image)
        for place, augment in enumerate(self.augmentation.augment_images):
            image = augment(image, fold_in(seed, 1 + place))
        return image, index

    def _finish(self, index, images, chosen):
        """Augments a block and adds its targets."""
        images = tf.cast(images, tf.float32)
        rows = self.targets.rows(chosen)
        seed = tf.stack([self.seed, tf.cast(self._number(index), tf.int32)])
        for place, augment in enumerate(self.augmentation.augment):
            images, rows = augment(images, rows, fold_in(seed, 100 + place))
        return self.targets.finish(self.preprocessing.normalise(images), rows, seed)


def _blocks_per_replica(batch_size, replicas):
    size = block_size(batch_size)
    blocks, remainder = divmod(batch_size, size * replicas)
    if remainder:
        larger = itertools.count(math.ceil(batch_size / 8) * 8, 8)
        fits = next(number for number in larger if number % (block_size(number) * replicas) == 0)
        raise InputError(
            f"batch_size={batch_size} cannot be shared by {replicas} replicas in blocks of {size} "
            f"images; try --set batch_size={fits}."
        )
    return blocks


def evaluation_batches(
    examples: Examples, preprocessing: Preprocessing, batch_size: int, cache_mib: int = 0
) -> tf.data.Dataset:
    """Every example once, in order, as `predict` and an exported model see it.

    Args:
        examples: Examples.
        preprocessing: Preprocessing of the model.
        batch_size: images in a batch; the last one may be smaller.
        cache_mib: MiB of memory for the normalised images, which the next pass uses again.

    Returns:
        tf.data.Dataset of (float32 (batch, height, width, channels), normalised; float32 (batch,
        classes), one-hot labels).
    """
    labels = tf.one_hot(examples.labels, len(examples.class_names))

    def read(index):
        return preprocessing(examples.read(index)), labels[index]

    dataset = tf.data.Dataset.range(len(examples)).map(read, tf.data.AUTOTUNE)
    height, width = preprocessing.image_size
    if len(examples) * height * width * preprocessing.channels * 4 <= cache_mib * 2**20:
        dataset = dataset.cache()
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def even_batch_size(count: int, largest: int) -> int:
    """A batch size that divides `count`, so that the last batch is not compiled separately.

    Args:
        count: images.
        largest: the largest batch size; it is the answer where no number above its half divides
            `count`.
    """
    divisors = (size for size in range(largest, largest // 2, -1) if count % size == 0)
    return min(count, next(divisors, largest))
