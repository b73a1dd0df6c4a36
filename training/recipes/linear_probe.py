"""A new head on frozen pre-trained features: a folder of photographs in minutes.

python -m training fit linear_probe --weights FILE --data FOLDER

Computes the features of every image once, without augmentation, and fits logistic regressions whose
penalty is chosen on the validation images (CLIP's protocol, arXiv:2103.00020, appendix A.3).
Measured on 2026-11-22 with a real DINOv2-S/14 (see benchmarks/dinov2_check.py) and 900 images of
CIFAR-10 (JPEG) at `--set image_size=70`: 59.8 % of 500 test images, 90 seconds on one core.
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
        dataset="",  # set on the command line
    ),
    model=ModelOptions(
        weights="",  # set on the command line
        image_size=0,  # the image size of the weights
    ),
    fine_tuning=FineTuningOptions(
        trainable="head",
    ),
    optimization=OptimizationOptions(
        batch_size=64,
    ),
)
