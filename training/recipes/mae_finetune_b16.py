"""A masked autoencoder's B/16 encoder, fine-tuned on ImageNet-1k (arXiv:2111.06377, table 9).

python -m training fit mae_finetune_b16 --weights mae_pretrain_vit_base.pth --data IMAGENET

Settings of the repository's FINETUNE.md. Differences: RandAugment and mixing as in deit_s16, and
the last LayerNorm starts with the checkpoint's values (MAE: new). Reported: 83.6 %. Measured: not
run.
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
        weights="",  # set on the command line
        image_size=0,  # the image size of the weights
        config={"pooling": "mean", "norm_after_pooling": True, "stochastic_depth": 0.1},
        crop_fraction=0.875,
        interpolation="bicubic",
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(random_resized_crop, area=(0.08, 1.0), interpolation="bicubic"),
        augment_images=(
            flip_image,
            partial(rand_augment, magnitude=9, std=0.5, probability=0.5, increasing=True),
        ),
        augment=(partial(random_erasing, probability=0.25), partial(mixup_or_cutmix, alpha=0.8)),
    ),
    optimization=OptimizationOptions(
        epochs=100,
        warmup_epochs=5,
        batch_size=1024,
        learning_rate=2e-3,
        layer_decay=0.65,
        weight_decay=0.05,
        global_clipnorm=0.0,
        label_smoothing=0.1,
    ),
    execution=ExecutionOptions(
        mixed_precision="mixed_bfloat16",
    ),
)
