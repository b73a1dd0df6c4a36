"""Run folder -> report.md and its pictures: curves, confusion matrix, worst mistakes."""

import csv

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix
from tabulate import tabulate

from training.evaluate import format_evaluation

MISTAKES = 24  # on the sheet
matplotlib.use("Agg")


def write_report(run, recipe, evaluation, probabilities, examples):
    """Writes report.md, curves.png, confusion.png and mistakes.png into the run folder.

    Args:
        run: path of a run folder with history.csv.
        recipe: Recipe.
        evaluation: as `evaluate` gives it.
        probabilities: (count, classes) for `examples`, the images evaluated.
    """
    history = _read_history(run / "history.csv")
    _save(curves(history), run / "curves.png")
    _save(confusion(probabilities, examples), run / "confusion.png")
    _save(mistakes(probabilities, examples), run / "mistakes.png")
    text = f"""# {recipe.weights or recipe.variant} on {recipe.data}

{format_evaluation(evaluation)}

The model: {evaluation["model"]}, chosen on the validation images. The run took
{evaluation["seconds"]:.0f} seconds.

![loss and accuracy in training](curves.png)

![confusion matrix](confusion.png)

The most confident mistakes, with the probability the model gave to the wrong class:

![the worst mistakes](mistakes.png)

{_settings(recipe)}
"""
    (run / "report.md").write_text(text, encoding="utf-8")


def write_pretraining_report(run, recipe, evaluation):
    """Writes report.md and curves.png beside inpainting.png, which is there, into the run folder.

    Args:
        run: path of a run folder with history.csv.
        recipe: Recipe with `pretrain`.
        evaluation: {"loss", "images", "split", "model", "seconds"}.
    """
    _save(curves(_read_history(run / "history.csv")), run / "curves.png")
    given = " Brightness and contrast of a hidden patch are the original's." * (
        recipe.pretrain == "mae" and recipe.decoder.get("normalised", True)
    )
    text = f"""# {recipe.variant}, {recipe.pretrain.upper()} on {recipe.data}

Loss {evaluation["loss"]:.4f} on {evaluation["images"]:,} images ({evaluation["split"]} split).

The model: {evaluation["model"]}, chosen by the loss on the validation images. The run took
{evaluation["seconds"]:.0f} seconds. Its encoder is fine-tuned with

    python -m training fit finetune --weights {run} --data LABELLED

![loss in training](curves.png)

Images the model was not trained on, what it saw of them, and what it filled in.{given}

![inpainting](inpainting.png)

{_settings(recipe)}
"""
    (run / "report.md").write_text(text, encoding="utf-8")


def _settings(recipe):
    rows = [(key, str(value)) for key, value in recipe.as_dict().items()]
    table = tabulate(rows, ("field", "value"), tablefmt="github", disable_numparse=True)
    return f"## Recipe\n\n{table}"


def curves(history):
    """Loss and, if any, accuracy over a history's first column -> Figure"""
    names = [name for name in ("loss", "accuracy") if name in history]
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for column, label in ((name, "training"), (f"val_{name}", "validation")):
            axes.plot(*history[column], label=label)
        first = next(iter(history))
        axes.set(title=name, xlabel=first)
        if first == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            axes.set_xscale("log")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion(probabilities, examples):
    """Counts of true against predicted class -> Figure; unlabelled above 40 classes"""
    classes = np.arange(len(examples.class_names))
    matrix = confusion_matrix(examples.labels, probabilities.argmax(axis=1), labels=classes)
    labelled = len(classes) <= 40
    side = max(5, min(16, 2 + 0.45 * len(classes)))
    figure = Figure(figsize=(side, side), layout="constrained")
    ConfusionMatrixDisplay(
        matrix, display_labels=plain(examples.class_names) if labelled else None
    ).plot(
        ax=figure.subplots(),
        include_values=labelled,
        cmap="Blues",
        colorbar=False,
        xticks_rotation="vertical",
    )
    return figure


def mistakes(probabilities, examples):
    """The images whose wrong class got the highest probabilities -> Figure"""
    predicted = probabilities.argmax(axis=1)
    confidence = np.where(predicted == examples.labels, -1.0, probabilities.max(axis=1))
    worst = np.argsort(-confidence)[: min(MISTAKES, (confidence >= 0).sum())]
    columns = 6
    rows = max(1, -(-len(worst) // columns))
    figure = Figure(figsize=(1.8 * columns, 2.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    names = plain(examples.class_names)
    for axes, index in zip(grid, worst, strict=False):
        image = np.asarray(examples.read(index))
        axes.imshow(image, cmap="gray" if image.shape[-1] == 1 else None)
        true, wrong = names[examples.labels[index]], names[predicted[index]]
        axes.set_title(f"{true}\ntaken for {wrong}, {confidence[index]:.0%}", fontsize=7.5)
    if not len(worst):
        grid[0].text(0, 0.5, "no mistakes")
    return figure


def plain(names):
    """Class names without what matplotlib takes for mathematics."""
    return [name.replace("$", r"\$") for name in names]


def _read_history(path):
    """history.csv -> {column: (values of the first column, values)}, where there are values

    Epochs, which Keras counts from 0, are counted from 1.
    """
    with open(path) as file:
        rows = list(csv.DictReader(file))
    first, history = next(iter(rows[0])), {}
    for column in rows[0]:
        values = [(float(row[first]) + (first == "epoch"), row[column]) for row in rows]
        known = [(x, float(value)) for x, value in values if value not in ("", "NA")]
        history[column] = ([x for x, _ in known], [value for _, value in known])
    return history


def _save(figure, path):
    figure.savefig(path, dpi=110)
