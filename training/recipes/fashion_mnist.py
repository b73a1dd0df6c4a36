"""A small CCT from scratch on Fashion-MNIST, 28x28 pixels, in ten minutes on two cores.

python -m training fit fashion_mnist --data tfds:fashion_mnist

A narrow CCT (arXiv:2104.05704): convolutions learn in few epochs. On 3,000 validation images, five
epochs with Muon reached 91.7 %, with AdamW 90.5 % (one seed each). TensorFlow's convolutions are
faster than XLA's on CPUs.

Measured on 2026-11-22 on one core of an AMD EPYC: 91.8, 91.4 and 91.7 % of the 10,000 test images
(seeds 0, 1, 2) after 785 CPU seconds.
"""

from training.augment.batches import flip
from training.recipe import (
    AugmentationOptions,
    DataOptions,
    ExecutionOptions,
    ModelOptions,
    OptimizationOptions,
    Recipe,
)

RECIPE = Recipe(
    data=DataOptions(
        dataset="fashion_mnist",
        validation_fraction=0.05,
    ),
    model=ModelOptions(
        variant="cct_mini_3x2",
        image_size=28,  # pixels
        channels=1,
        mean=(0.286,),  # of the training images
        std=(0.353,),
    ),
    augmentation=AugmentationOptions(
        augment=(flip,),
    ),
    optimization=OptimizationOptions(
        epochs=5,
        warmup_epochs=1,
        batch_size=64,
        optimizer="muon",
        learning_rate=4e-3,
        beta_2=0.99,
    ),
    execution=ExecutionOptions(
        jit_compile=False,
    ),
)
