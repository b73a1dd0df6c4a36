"""DeiT III-S/16 from scratch on ImageNet-1k, 800 epochs (arXiv:2204.07118, table 1).

python -m training fit deit3_s16 --data IMAGENET     a folder with train/CLASS/ and val/CLASS/

Settings of the repository's README_revenge.md. Differences: LAMB's weight decay is outside of its
trust ratio, stochastic depth grows from block to block (DeiT III: the same in all blocks), every
image has its own mixing ratio (DeiT III: one for the batch), and the learning rate ends at 0
(DeiT III: 1e-5). Reported: 81.4 %. Measured: not run.
"""

from functools import partial

from training.augment.batches import mixup_or_cutmix, random_resized_crop
from training.augment.images import colour_jitter, flip_image, three_augment
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
        variant="deit3_s16",
        image_size=224,  # pixels
        config={"stochastic_depth": 0.05},
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(random_resized_crop, area=(0.08, 1.0), interpolation="bicubic"),
        augment_images=(flip_image, three_augment, partial(colour_jitter, strength=0.3)),
        augment=(partial(mixup_or_cutmix, alpha=0.8),),
        repeated_augmentation=3,
    ),
    optimization=OptimizationOptions(
        epochs=800,
        warmup_epochs=5,
        batch_size=2048,
        optimizer="lamb",
        learning_rate=4e-3,
        weight_decay=0.05,
        global_clipnorm=1.0,  # inside apex's FusedLAMB
        loss="sigmoid-any",
        label_smoothing=0.0,
    ),
    execution=ExecutionOptions(
        mixed_precision="mixed_bfloat16",
    ),
)
