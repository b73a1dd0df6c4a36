"""ViT-B/16 of ImageNet-21k, fine-tuned on CIFAR-10 at 384 pixels in 500 steps, as by Google.

python -m training fit google_cifar10 --weights vit_b16_224_i21k

The protocol of arXiv:2010.11929, appendix B.1.1, with the length given in vision_transformer's
README (500 steps, 50 of them warm-up). Reported there: 98.59 % of the test images. Measured: not
run.
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
        dataset="tfds:cifar10",
        train_split="train[:98%]",
        validation_split="train[98%:]",
    ),
    model=ModelOptions(
        weights="",  # set on the command line
        image_size=384,  # pixels
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(random_resized_crop, area=(0.05, 1.0)),
        augment=(flip,),
    ),
    optimization=OptimizationOptions(
        steps=8 * 500,  # eight steps for one update
        warmup_epochs=0.5,  # 50 updates
        batch_size=64,
        gradient_accumulation_steps=8,
        optimizer="sgd",
        learning_rate=0.03,
        weight_decay=0.0,
        global_clipnorm=1.0,
        label_smoothing=0.0,
    ),
)
