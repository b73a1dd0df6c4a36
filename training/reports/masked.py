"""Run folder of masked pre-training -> report.md and report.html."""

from training.reports.html import write_page
from training.reports.sections import provenance_sections, read_record, summary, training_section


def write_pretraining_report(run, recipe, evaluation):
    """Writes report.html and report.md, beside inpainting.png, which is there, into the run folder.

    Args:
        run: path of a run folder with all that is no report.
        recipe: Recipe with `pretrain`.
        evaluation: that of evaluation.json, with a "loss".
    """
    given = " Brightness and contrast of a hidden patch are the original's." * (
        recipe.pretrain == "mae" and recipe.decoder.get("normalised", True)
    )
    record = read_record(run)
    images = f"{evaluation['images']:,} {evaluation['split']} images"
    sections = [
        summary(record, evaluation, [("**loss**", f"**{evaluation['loss']:.4f}** on {images}")]),
        f"""Its encoder is fine-tuned with

    python -m training fit finetune --weights {run} --data LABELLED""",
        training_section(run),
        f"""## What it fills in

Images the model was not trained on, what it saw of them, and what it filled in.{given}

![inpainting](inpainting.png)""",
        *provenance_sections(record, recipe),
    ]
    title = f"{recipe.variant}, {recipe.pretrain.upper()} on {recipe.data}"
    write_page(run / "report", title, "\n\n".join(sections))
