"""A small DeiT that learns from labels and a teacher, on a folder of photographs at 64x64 pixels.

python -m training fit deit_distill --data FOLDER --teacher MODEL

MODEL: a run folder or .keras file of another model for the same classes, or a SavedModel. Hard
distillation with a distillation token (arXiv:2012.12877, section 4).
Measured: not run on a public dataset; benchmarks/small_data.py trains Ti with a teacher on
Fashion-MNIST.
"""

from training.recipes import photos

RECIPE = photos.RECIPE.replace(
    teacher="",  # set on the command line
    task="distillation",
    distillation_loss="hard",
    config={"distilled": True, "stochastic_depth": 0.1},
)
