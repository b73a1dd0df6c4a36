"""Evaluated masked model -> the picture and sections of its report."""

from typing import TYPE_CHECKING, Any

from training.reports.sections import Report
from training.runs.folder import RunFolder

if TYPE_CHECKING:
    from training.recipe import Recipe


def pretraining_report(run: RunFolder, recipe: "Recipe", evaluation: dict[str, Any]) -> Report:
    """Describes a run of masked pre-training; inpainting.png is in the run folder.

    Args:
        run: RunFolder.
        recipe: Recipe with the task "mae" or "mim".
        evaluation: the content of evaluation.json, with a "loss".
    """
    given = ""
    if recipe.task == "mae" and recipe.masking.decoder.get("normalised", True):
        given = " Brightness and contrast of a hidden patch are the original's."
    images = f"{evaluation['images']:,} {evaluation['split']} images"
    introduction = f"""Fine-tune its encoder with

    python -m training fit finetune --weights {run} --data LABELLED"""
    section = f"""## Reconstructions

Images the model was not trained on, their visible patches, and the patches it filled in.{given}

![inpainting](inpainting.png)"""
    return Report(
        title=f"{recipe.model.variant}, {recipe.task.upper()} on {recipe.data.dataset}",
        quality=[("**loss**", f"**{evaluation['loss']:.4f}** on {images}")],
        introduction=introduction,
        sections=[section],
    )
