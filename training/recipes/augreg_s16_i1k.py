"""ViT-S/16 from scratch on ImageNet-1k: AugReg (arXiv:2106.10270), augmentation "medium2".

python -m training fit augreg_s16_i1k --data IMAGENET     a folder with train/CLASS/ and val/CLASS/

Settings of big_vision's configs/vit_i1k.py. Differences: big_vision does not multiply its weight
decay of 1e-4 by the learning rate, and has sixteen operations in RandAugment (here the paper's
fourteen). Reported for the authors' checkpoint of this size, after 20,000 further steps of
fine-tuning: 78.8 % (timm's results table, vit_small_patch16_224.augreg_in1k). Measured: not run.
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
        variant="vit_s16",
        image_size=224,  # pixels
        config={"head_width": 384, "gelu": "tanh"},
        crop_fraction=0.875,  # resizes to 256 pixels, keeps 224
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(random_resized_crop, area=(0.05, 1.0)),
        augment_images=(flip_image, partial(rand_augment, layers=2, magnitude=15)),
        augment=(partial(mixup, alpha=0.5),),
    ),
    optimization=OptimizationOptions(
        epochs=300,
        warmup_epochs=32,  # 10,000 steps
        batch_size=4096,
        learning_rate=1e-3,
        weight_decay=0.1,
        label_smoothing=0.0,
    ),
    execution=ExecutionOptions(
        mixed_precision="mixed_bfloat16",
    ),
)
