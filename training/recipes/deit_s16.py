"""DeiT-S/16 from scratch on ImageNet-1k (arXiv:2012.12877, table 9).

python -m training fit deit_s16 --data IMAGENET     a folder with train/CLASS/ and val/CLASS/

Differences from DeiT, which uses timm: random erasing fills with uniform noise, RandAugment has the
paper's fourteen operations (timm: fifteen), every image has its own mixing ratio, and the learning
rate ends at 0 (DeiT: 1e-5). Reported: 79.9 %; for `--set variant=deit_ti16` 72.2 %, for deit_b16
81.8 % (the repository's README). Measured: not run.
"""

from functools import partial

from training.augment.batches import mixup_or_cutmix, random_erasing, random_resized_crop
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
        variant="deit_s16",
        image_size=224,  # pixels
        config={"stochastic_depth": 0.1},
        crop_fraction=0.875,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(random_resized_crop, area=(0.08, 1.0), interpolation="bicubic"),
        augment_images=(
            flip_image,
            partial(rand_augment, magnitude=9, std=0.5, probability=0.5, increasing=True),
        ),
        augment=(partial(random_erasing, probability=0.25), partial(mixup_or_cutmix, alpha=0.8)),
        repeated_augmentation=3,
    ),
    optimization=OptimizationOptions(
        epochs=300,
        warmup_epochs=5,
        batch_size=1024,
        learning_rate=1e-3,
        weight_decay=0.05,
        global_clipnorm=0.0,
        label_smoothing=0.1,
    ),
    execution=ExecutionOptions(
        mixed_precision="mixed_bfloat16",
    ),
)
