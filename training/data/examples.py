"""Images that can be read by number, with labels -> Examples, and parts of them."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from vit_keras.utils.errors import InputError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled images that can be read in any order.

    Attributes:
        labels: int64 (count,), indices into class_names.
        class_names: of every class, in the order of the labels.
        names: of every image, for reports: a path, or a split and index.
        read: int64 scalar tensor, an index -> uint8 (height, width, channels). It consists of
            TensorFlow operations, so that tf.data can run it in parallel.
        pixels: uint8 tensor (count, height, width, channels) if all images have one shape and
            are in memory, else None.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    read: Callable[[tf.Tensor], tf.Tensor]
    pixels: tf.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray) -> "Examples":
        """Returns the examples at these indices, in this order."""
        chosen = tf.constant(indices, tf.int64)
        labels, names = self.labels[indices], tuple(self.names[i] for i in indices)
        if self.pixels is not None:
            pixels = tf.gather(self.pixels, chosen)
            return Examples.from_pixels(pixels, labels, self.class_names, names)
        return dataclasses.replace(
            self, labels=labels, names=names, read=lambda index: self.read(chosen[index])
        )

    def with_classes(self, class_names: Sequence[str]) -> "Examples":
        """Returns the same examples with labels that are indices into other class names.

        Raises:
            InputError: if one of the present classes is not among them.
        """
        for name in self.class_names:
            if name not in class_names:
                raise InputError(
                    f"the model has no class {name!r}{did_you_mean(name, class_names)}"
                )
        index = np.array([class_names.index(name) for name in self.class_names], "int64")
        return dataclasses.replace(self, labels=index[self.labels], class_names=tuple(class_names))

    @classmethod
    def from_pixels(
        cls,
        pixels: ArrayLike | tf.Tensor,
        labels: ArrayLike,
        class_names: Iterable[str],
        names: Iterable[str],
    ) -> "Examples":
        """Makes examples of images in memory, without a second copy of them.

        Args:
            pixels: uint8 (count, height, width, channels).
            labels: int (count,), indices into class_names.
            class_names: of every class, in the order of the labels.
            names: of every image.
        """
        pixels = tf.convert_to_tensor(pixels)
        return cls(
            labels=np.asarray(labels, "int64"),
            class_names=tuple(class_names),
            names=tuple(names),
            read=lambda index: pixels[index],
            pixels=pixels,
        )


SPLITS = ("train", "validation", "test")
SplitLoaders = dict[str, Callable[[], Examples]]  # by split


def split_off(examples: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Divides examples in two, class by class.

    Args:
        examples: two or more of each class.
        fraction: of each class for the second part, which gets at least one image.
        seed: decides which images are drawn.

    Returns:
        The rest, and the fraction; both in the order of the examples.

    Raises:
        InputError: if a class has fewer than two images.
    """
    random = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(examples.class_names):
        members = np.flatnonzero(examples.labels == label)
        if len(members) < 2:
            remedy = "Add images"
            if len(examples.class_names) > 1:
                remedy += ", or remove the class"
            raise InputError(
                f"class {name!r} has {len(members)} image(s); training and validation need one "
                f"each. {remedy}."
            )
        count = max(1, round(fraction * len(members)))
        chosen.append(random.permutation(members)[:count])
    split = np.sort(np.concatenate(chosen))
    rest = np.setdiff1d(np.arange(len(examples)), split)
    return examples.subset(rest), examples.subset(split)


def classes_in_turn(labels: np.ndarray) -> np.ndarray:
    """Orders images: the first of every class, the second of every class, and so on.

    Args:
        labels: int (count,).

    Returns:
        int (count,), indices of all images.
    """
    return np.lexsort((labels, _rank_in_class(labels)))


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Orders images at random, so that the first n have the class proportions of all, for any n.

    Args:
        labels: int (count,).
        seed: decides the order.

    Returns:
        int (count,), indices of all images.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    _, classes, sizes = np.unique(labels[order], return_inverse=True, return_counts=True)
    # The images of a class are equally spaced in 0..1, from a random place on.
    offsets = random.random(len(sizes))
    position = (_rank_in_class(classes) + offsets[classes]) / sizes[classes]
    return order[np.argsort(position, kind="stable")]


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """(count,) labels -> (count,), how many images of the same label come before each."""
    rank = np.zeros(len(labels), int)
    for label in np.unique(labels):
        members = labels == label
        rank[members] = np.arange(members.sum())
    return rank
