"""A small CCT from scratch on CIFAR-10, 32x32 pixels, in ten minutes on two cores.

python -m training fit cifar10 --data FOLDER     or without --data, for tfds:cifar10

A narrow CCT (arXiv:2104.05704); the first epochs use images of three quarters of the size.

Measured on 2026-11-22 (seed 2 on 2026-11-25) on one core of an AMD EPYC: 76.7, 76.1 and 76.1 % of
the test images of CIFAR-10 (JPEG), seeds 0, 1 and 2, after 1,127 CPU seconds. More epochs were not
tried.
"""

from functools import partial

from training.augment.batches import flip, resized_crop_of_border
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
        dataset="tfds:cifar10",
        validation_fraction=0.05,
    ),
    model=ModelOptions(
        variant="cct_mini_3x2",
        image_size=32,  # pixels
        config={"depth": 3},
        mean=(0.491, 0.482, 0.447),  # of the training images
        std=(0.247, 0.243, 0.262),
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(resized_crop_of_border, pixels=4),
        augment=(flip,),
        progressive_resizing=((0.75, 0.6),),
    ),
    optimization=OptimizationOptions(
        epochs=6,
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
