"""A small ViT from scratch on a folder of photographs at 64x64 pixels, one folder per class.

python -m training fit photos --data FOLDER

Measured: not run on a public dataset.
"""

from functools import partial

from training.augment.batches import flip, random_resized_crop
from training.recipe import (
    AugmentationOptions,
    DataOptions,
    ModelOptions,
    OptimizationOptions,
    Recipe,
)

RECIPE = Recipe(
    data=DataOptions(
        dataset="",  # set on the command line
    ),
    model=ModelOptions(
        variant="vit_mini8",
        image_size=64,  # pixels
        config={"pooling": "mean", "stochastic_depth": 0.1},
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(random_resized_crop, area=(0.35, 1.0)),
        augment=(flip,),
    ),
    optimization=OptimizationOptions(
        epochs=60,
        batch_size=64,
        learning_rate=1e-3,
        ema_momentum=0.99,
    ),
)
