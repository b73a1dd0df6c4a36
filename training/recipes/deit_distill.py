"""A small DeiT that also learns from a teacher, on a folder of photographs at 64x64 pixels.

python -m training fit deit_distill --data FOLDER --teacher MODEL

MODEL: a run folder or .keras file of another model for the same classes, or a SavedModel. Hard
distillation to a token of its own (arXiv:2012.12877, section 4).
Measured: not run on a public data set yet.
"""

from functools import partial

from training.augment import flip, random_resized_crop
from training.recipe import Recipe

RECIPE = Recipe(
    data="",  # named on the command line
    teacher="",  # named on the command line
    distillation="hard",
    variant="vit_mini8",
    image_size=64,  # pixels
    model={"distilled": True, "stochastic_depth": 0.1},
    train_crop=partial(random_resized_crop, area=(0.35, 1.0)),
    augment=(flip,),
    epochs=60,
    batch_size=64,
    learning_rate=1e-3,
    ema=0.99,
)
