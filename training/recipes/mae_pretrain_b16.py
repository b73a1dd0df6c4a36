"""A masked autoencoder with a B/16 encoder on ImageNet-1k without labels (arXiv:2111.06377).

python -m training fit mae_pretrain_b16 --data IMAGENET
python -m training fit mae_finetune_b16 --weights runs/mae_pretrain_b16 --data IMAGENET

Settings of the repository's PRETRAIN.md. Reported: 83.6 % after 1,600 epochs and fine-tuning.
Measured: not run.
"""

from functools import partial

from training.augment.batches import random_resized_crop
from training.augment.images import flip_image
from training.recipe import (
    AugmentationOptions,
    DataOptions,
    ExecutionOptions,
    MaskingOptions,
    ModelOptions,
    OptimizationOptions,
    Recipe,
)

RECIPE = Recipe(
    task="mae",
    data=DataOptions(
        dataset="",  # set on the command line
    ),
    model=ModelOptions(
        variant="vit_b16",
        image_size=224,  # pixels
        config={"positions": "sincos2d", "norm_epsilon": 1e-6, "gelu": "exact"},
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        interpolation="bicubic",
        crop_fraction=0.875,
    ),
    masking=MaskingOptions(
        mask_ratio=0.75,
        sheet_every=40,
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(random_resized_crop, area=(0.2, 1.0), interpolation="bicubic"),
        augment_images=(flip_image,),
    ),
    optimization=OptimizationOptions(
        epochs=800,
        warmup_epochs=40,
        batch_size=4096,
        learning_rate=2.4e-3,  # 1.5e-4 for each 256 images
        weight_decay=0.05,
        beta_2=0.95,
        global_clipnorm=0.0,
    ),
    execution=ExecutionOptions(
        mixed_precision="mixed_bfloat16",
    ),
)
