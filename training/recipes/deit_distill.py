"""A small DeiT that also learns from a teacher, on a folder of photographs at 64x64 pixels.

python -m training fit deit_distill --data FOLDER --teacher MODEL

MODEL: a run folder or .keras file of another model for the same classes, or a SavedModel. Hard
distillation to a token of its own (arXiv:2012.12877, section 4).
Measured: not run on a public data set; benchmarks/small_data.py runs Ti with a teacher on
Fashion-MNIST.
"""

from training.recipes import photos

RECIPE = photos.RECIPE.replace(
    teacher="",  # named on the command line
    task="distillation",
    distillation_loss="hard",
    config={"distilled": True, "stochastic_depth": 0.1},
)
