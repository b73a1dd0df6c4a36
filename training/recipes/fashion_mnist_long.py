"""The small CCT of `fashion_mnist`, one block deeper, for less than forty minutes of two cores.

python -m training fit fashion_mnist_long --data tfds:fashion_mnist

More than three times the passes, with erased boxes (arXiv:1708.04896). Measured: not yet.
"""

from functools import partial

from training.augment import flip, random_erasing
from training.recipe import Recipe

RECIPE = Recipe(
    data="fashion_mnist",
    validation_fraction=0.05,
    variant="cct_mini_3x2",
    image_size=28,  # pixels
    channels=1,
    model={"depth": 3},
    mean=(0.286,),  # of the training images
    std=(0.353,),
    augment=(flip, partial(random_erasing, probability=0.5)),
    epochs=18,
    warmup_epochs=1,
    batch_size=64,
    optimizer="muon",
    learning_rate=4e-3,
    beta_2=0.99,
    jit=False,
)
