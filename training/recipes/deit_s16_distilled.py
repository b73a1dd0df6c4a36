"""DeiT-S/16 with a teacher on ImageNet-1k (arXiv:2012.12877, table 9).

python -m training fit deit_s16_distilled --data IMAGENET --teacher MODEL

deit_s16 with a distillation token; the paper's teacher is a RegNetY-16GF. Reported: 81.2 %; for
`--set variant=deit_ti16_distilled` 74.5 %, for deit_b16_distilled 83.4 % (the repository's README).
Measured: not run.
"""

from training.recipes import deit_s16

RECIPE = deit_s16.RECIPE.replace(
    variant="deit_s16_distilled",
    teacher="",  # set on the command line
    task="distillation",
    distillation_loss="hard",
)
