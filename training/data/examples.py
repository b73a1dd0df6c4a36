"""Images that can be read by number, with labels -> Examples, and parts of them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from vit_keras.utils.errors import InputError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled images that can be read in any order.

    Attributes:
        labels: int64 (count,), indices into class_names.
        class_names: of every class, in the order of the labels.
        names: of every image, for reports: a path, or a split and index.
        read: int64 scalar tensor, an index -> uint8 (height, width, channels); TensorFlow
            operations alone, so that it runs in parallel inside tf.data.
        pixels: uint8 tensor (count, height, width, channels) where all images have one shape and
            are in memory, else None.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    read: Callable[[tf.Tensor], tf.Tensor]
    pixels: tf.Tensor | None = None

    def __len__(self):
        return len(self.labels)

    def subset(self, indices):
        """Only the examples at these indices, in this order."""
        chosen = tf.constant(indices, tf.int64)
        labels, names = self.labels[indices], tuple(self.names[i] for i in indices)
        if self.pixels is not None:
            pixels = tf.gather(self.pixels, chosen)
            return Examples.from_pixels(pixels, labels, self.class_names, names)
        return dataclasses.replace(
            self, labels=labels, names=names, read=lambda index: self.read(chosen[index])
        )

    def with_classes(self, class_names):
        """The same examples with labels that are indices into other class names.

        Raises:
            InputError: for a class that is not among them.
        """
        for name in self.class_names:
            if name not in class_names:
                raise InputError(
                    f"the model knows no class {name!r}{did_you_mean(name, class_names)}"
                )
        index = np.array([class_names.index(name) for name in self.class_names], "int64")
        return dataclasses.replace(self, labels=index[self.labels], class_names=tuple(class_names))

    @classmethod
    def from_pixels(cls, pixels, labels, class_names, names):
        """From uint8 images (count, height, width, channels) in memory, which are held once."""
        pixels = tf.convert_to_tensor(pixels)
        return cls(np.asarray(labels, "int64"), tuple(class_names), tuple(names),
                   lambda index: pixels[index], pixels)  # fmt: skip


def split_off(examples, fraction, seed):
    """Divides examples in two, class by class: (the rest, `fraction` of them, at least one each).

    Raises:
        InputError: where a class has a single image.
    """
    random = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(examples.class_names):
        members = np.flatnonzero(examples.labels == label)
        if len(members) < 2:
            remedy = ", or remove the class" * (len(examples.class_names) > 1)
            raise InputError(
                f"class {name!r} has {len(members)} image(s); training and validation need one "
                f"each. Add images{remedy}."
            )
        count = max(1, round(fraction * len(members)))
        chosen.append(random.permutation(members)[:count])
    split = np.sort(np.concatenate(chosen))
    rest = np.setdiff1d(np.arange(len(examples)), split)
    return examples.subset(rest), examples.subset(split)


def classes_in_turn(labels):
    """Indices of all images: the first of every class, the second of every class, ..."""
    rank = np.zeros(len(labels), int)  # of an image within its class
    for label in np.unique(labels):
        members = labels == label
        rank[members] = np.arange(members.sum())
    return np.lexsort((labels, rank))
