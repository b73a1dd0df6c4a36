"""ViT-B/16 from scratch on ImageNet-21k: AugReg (arXiv:2106.10270), augmentation "light2".

python -m training fit augreg_b16_i21k --data IMAGENET21K --set validation_fraction=0.002

Settings of big_vision's configs/vit_i21k.py. Differences: big_vision does not multiply its weight
decay of 1e-4 by the learning rate, starts the bias of the head at -10 (here 0), and has sixteen
operations in RandAugment (here the paper's fourteen). Reported for the authors' checkpoint with
augmentation "medium1", fine-tuned on ImageNet-1k at 224 pixels: 84.5 % (vit_keras.PUBLISHED,
vit_b16_224_augreg). Measured: not run.
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
        variant="vit_b16",
        image_size=224,  # pixels
        config={"pooling": "mean", "gelu": "tanh"},
        crop_fraction=0.875,
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(random_resized_crop, area=(0.05, 1.0)),
        augment_images=(flip_image, partial(rand_augment, layers=2, magnitude=10)),
        augment=(partial(mixup, alpha=0.2),),
    ),
    optimization=OptimizationOptions(
        epochs=300,
        warmup_epochs=3,  # 10,000 steps
        batch_size=4096,
        learning_rate=1e-3,
        weight_decay=0.1,
        loss="sigmoid",
        label_smoothing=0.0,
    ),
    execution=ExecutionOptions(
        mixed_precision="mixed_bfloat16",
    ),
)
