"""SimpleViT-S/16 from scratch on ImageNet-1k in 90 epochs (arXiv:2205.01580).

python -m training fit simple_vit_s16 --data IMAGENET     a folder with train/CLASS/ and val/CLASS/

Settings of the paper and of big_vision's configs/vit_s16_i1k.py. Differences: big_vision does not
multiply its weight decay of 1e-4 by the learning rate, and has sixteen operations in RandAugment
(here the paper's fourteen). Reported: 76.5 %. Measured: not run.
"""

from functools import partial

from training.augment.batches import mixup, random_resized_crop
from training.augment.images import flip_image, rand_augment
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
        dataset="",  # set on the command line
    ),
    model=ModelOptions(
        variant="simple_vit_s16",
        image_size=224,  # pixels
        config={"head_width": 384},
        crop_fraction=0.875,
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(random_resized_crop, area=(0.05, 1.0)),
        augment_images=(flip_image, partial(rand_augment, layers=2, magnitude=10)),
        augment=(partial(mixup, alpha=0.2),),
    ),
    optimization=OptimizationOptions(
        epochs=90,
        warmup_epochs=8,  # 10,000 steps
        batch_size=1024,
        learning_rate=1e-3,
        weight_decay=0.1,
        label_smoothing=0.0,
    ),
    execution=ExecutionOptions(
        mixed_precision="mixed_bfloat16",
    ),
)
