"""A small masked autoencoder on a folder of photographs at 64x64 pixels; no labels are needed.

python -m training fit mae_pretrain --data FOLDER --out runs/mae
python -m training fit finetune --weights runs/mae --data LABELLED

MAE (arXiv:2111.06377) for a small model; `--set task=mim --set mask_unit=2 --set mask_ratio=0.6`
gives masked image modelling in the manner of SimMIM (arXiv:2111.09886). Measured with other
settings (benchmarks/small_data.py) on CIFAR-10 (JPEG) with 5,000 labels: 59.2 % with pre-training,
52.1 % with the labels alone, in the same time (three seeds each, 2026-11-23).
"""

from functools import partial

from training.augment.batches import flip, random_resized_crop
from training.recipe import (
    AugmentationOptions,
    DataOptions,
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
        variant="vit_mini8",
        image_size=64,  # pixels
    ),
    masking=MaskingOptions(
        decoder={"width": 96, "depth": 2, "heads": 3, "mlp_width": 384},
    ),
    augmentation=AugmentationOptions(
        train_crop=partial(random_resized_crop, area=(0.35, 1.0)),
        augment=(flip,),
    ),
    optimization=OptimizationOptions(
        epochs=200,
        warmup_epochs=10,
        batch_size=64,
        learning_rate=1e-3,
        beta_2=0.95,
    ),
)
