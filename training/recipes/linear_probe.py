"""A new head on pre-trained features that stay as they are: a folder of photographs in minutes.

python -m training fit linear_probe --weights FILE --data FOLDER

Features of every image once, without augmentation, then logistic regressions whose penalty the
validation images choose (CLIP's protocol, arXiv:2103.00020, appendix A.3). Measured on 2026-11-22
with a real DINOv2-S/14 (benchmarks/dinov2_check.py says which) and 900 images of CIFAR-10 (JPEG) at
`--set image_size=70`: 59.8 % of 500 test images, 90 seconds on one core.
"""

from training.recipe import (
    DataOptions,
    FineTuningOptions,
    ModelOptions,
    OptimizationOptions,
    Recipe,
)

RECIPE = Recipe(
    data=DataOptions(
        dataset="",  # named on the command line
    ),
    model=ModelOptions(
        weights="",  # named on the command line
        image_size=0,  # that of the weights
    ),
    fine_tuning=FineTuningOptions(
        trainable="head",
    ),
    optimization=OptimizationOptions(
        batch_size=64,
    ),
)
