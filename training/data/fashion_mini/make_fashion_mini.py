"""Fashion-MNIST's idx files -> fashion_mini.npz: 6,000 training and 1,000 test images.

apt-get install dataset-fashion-mnist && python training/data/fashion_mini/make_fashion_mini.py

Both parts are stratified (600 and 100 images a class) with seed 0; the test images come from
Fashion-MNIST's own test set.
"""

import pathlib

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from training.data.fashion_mnist import FASHION_MNIST, IDX_PREFIXES, read_idx

TARGET = pathlib.Path(__file__).with_name("fashion_mini.npz")


COUNTS = {"train": 6_000, "test": 1_000}  # images


def main() -> None:
    """Writes fashion_mini.npz next to this file."""
    arrays: dict[str, NDArray] = {}
    for split, count in COUNTS.items():
        prefix = IDX_PREFIXES[split]
        images = read_idx(FASHION_MNIST / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(FASHION_MNIST / f"{prefix}-labels-idx1-ubyte.gz")
        chosen, _ = train_test_split(
            np.arange(len(labels)), train_size=count, stratify=labels, random_state=0
        )
        arrays[f"{split}_images"] = images[chosen]
        arrays[f"{split}_labels"] = labels[chosen]
    np.savez_compressed(TARGET, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
