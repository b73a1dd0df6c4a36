"""Recipe -> data.md and sheet.png: what the model will see, how much of it, and how fast."""

import itertools
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from training.data.examples import Examples
from training.data.pipeline import training_batches
from training.data.sampling import balanced_weights
from training.data.splits import load_splits, readable_splits
from training.model.build import plan_model
from training.model.fine_tuning import restrict
from training.model.trainer import RunLength, build_trainer
from training.recipe import Recipe
from training.reports.figures import escape_math, image_grid, save
from training.reports.markdown import escape, markdown_table
from training.tasks import TASKS
from training.tasks.classification import ClassTargets
from vit_keras import Preprocessing, ViT
from vit_keras.utils.errors import InputError

SHEET = 40  # images
SECONDS = 5  # of each measurement
FILES = {"data.md", "sheet.png", "unreadable.txt"}


def preview(recipe: Recipe, out: pathlib.Path | str) -> None:
    """Writes what a run by this recipe would train on, without running it, and prints the text.

    The folder gets data.md (classes with their images, unreadable files, images a second),
    sheet.png (the first training images, augmented, with their labels) and unreadable.txt.

    Args:
        recipe: Recipe.
        out: path of the folder; one that this function wrote may be written again.

    Raises:
        InputError: for data no run could start on, and for a folder that holds other files.
    """
    out = pathlib.Path(out)
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= FILES):
        raise InputError(f"the folder {out} holds other files; choose another one with --out.")
    task = TASKS[recipe.task]
    task.check_sources(recipe)
    plan = plan_model(recipe)
    splits = load_splits(recipe.data, recipe.model.channels, recipe.execution.seed, task.labelled)
    out.mkdir(parents=True, exist_ok=True)
    (out / "unreadable.txt").unlink(missing_ok=True)
    tolerant = recipe.replace(max_unreadable=0.99)
    splits, unreadable = readable_splits(
        splits, tolerant.data, plan.config.image_size, out / "unreadable.txt", task.labelled
    )
    train = splits["train"]
    keras.utils.set_random_seed(recipe.execution.seed)
    model = task.build_model(recipe, plan, train.class_names)

    save(sheet(train, recipe, plan.preprocessing), out / "sheet.png")
    text = f"""# {recipe.data.dataset}

{balance(splits, recipe)}

{_unreadable(unreadable)}

{_rates(model, recipe, train)}

![training images as the model sees them](sheet.png)
"""
    (out / "data.md").write_text(text, encoding="utf-8")
    print(f"{text}\nWritten to {out}.")


def sheet(examples: Examples, recipe: Recipe, preprocessing: Preprocessing) -> Figure:
    """Draws the first images of a run, augmented and mixed in one batch, with their labels.

    Args:
        examples: Examples to train on.
        recipe: Recipe.
        preprocessing: Preprocessing of the model.
    """
    recipe = recipe.replace(batch_size=SHEET)
    batches = training_batches(examples, recipe, preprocessing, ClassTargets(examples), last=1)
    images, rows = next(iter(batches))
    images = np.asarray(images) * preprocessing.std + preprocessing.mean
    names = tuple(escape_math(examples.class_names))
    titles = [TASKS[recipe.task].caption(row, names) for row in np.asarray(rows)]
    return image_grid(list(images.clip(0, 1)), 8, (1.6, 1.9), titles=titles)


def balance(splits: Mapping[str, Examples], recipe: Recipe) -> str:
    """Counts the images of each class in each split, and what balancing would change.

    Args:
        splits: {split: Examples}.
        recipe: Recipe.

    Returns:
        Markdown.
    """
    if not TASKS[recipe.task].labelled:
        counts = (f"{len(examples):,} {split}" for split, examples in splits.items())
        return f"Images, without labels: {', '.join(counts)}."
    names = splits["train"].class_names
    images = {
        split: np.bincount(examples.labels, minlength=len(names))
        for split, examples in splits.items()
    }
    weights = balanced_weights(splits["train"])
    rows: list[tuple[Any, ...]] = [
        (escape(name), *(images[split][index] for split in images), weights[index])
        for index, name in enumerate(names)
    ]
    rows.append(("all", *(len(examples) for examples in splits.values()), ""))
    headers = ("class", *images, "weight if balanced")
    table = markdown_table(rows, headers, floatfmt=".2f", disable_numparse=False)
    ratio = images["train"].max() / max(1, images["train"].min())
    advice = {
        "none": "Try --set balance=sampling or --set balance=weights." if ratio > 3 else "",
        "sampling": "Every class is drawn equally often.",
        "weights": "Losses are weighted by the last column.",
    }[recipe.data.balance]
    return (
        f"{table}\n\nThe largest class has {ratio:.1f} times the images of the smallest. {advice}"
    )


def _unreadable(reasons):
    if not reasons:
        return "All images can be read."
    lines = "\n".join(
        f"- {name}: {reason}" for name, reason in itertools.islice(reasons.items(), 10)
    )
    return f"Images that cannot be read: {len(reasons)}, all in unreadable.txt.\n\n{lines}"


class _StepTimer(keras.callbacks.Callback):
    """Counts steps from the third on, and stops training after SECONDS."""

    def on_train_batch_end(self, batch, logs=None):
        if batch < 2:  # tracing, compiling
            self.start = time.perf_counter()
        else:
            self.steps, self.seconds = batch - 1, time.perf_counter() - self.start
            self.model.stop_training = self.seconds >= SECONDS


def _rates(model: ViT, recipe: Recipe, examples: Examples) -> str:
    """Measures the images a second of the pipeline and of training, as Markdown."""
    recipe = recipe.replace(steps_per_execution=1, teacher_cache=False)
    objective = TASKS[recipe.task].objective(recipe, model, examples)
    batches = training_batches(examples, recipe, model.preprocessing, objective.targets, last=2**31)
    batch_size = recipe.optimization.batch_size
    pipeline_rate = _pipeline_rate(batches, batch_size)
    size = "x".join(map(str, model.config.image_size))
    if recipe.fine_tuning.trainable == "head":
        return f"At {size} px the pipeline gives {pipeline_rate:,.0f} images a second."
    timer = _StepTimer()
    restrict(model, recipe.fine_tuning)
    trainer = build_trainer(model, recipe, objective, RunLength(1, 10**6))
    trainer.fit(batches, steps_per_epoch=10**6, callbacks=[timer], verbose=0, shuffle=False)
    training_rate = timer.steps * batch_size / timer.seconds
    waits = training_rate > 0.8 * pipeline_rate
    verdict = "often; a larger cache_mib or smaller images help" if waits else "rarely"
    return (
        f"At {size} px the pipeline alone gives {pipeline_rate:,.0f} images a second, and training "
        f"takes {training_rate:,.0f}: the model waits for images {verdict}."
    )


def _pipeline_rate(batches, batch_size):
    """Images a second that the pipeline gives without a model."""
    iterator = iter(batches)
    next(iterator)
    start, images = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < SECONDS:
        next(iterator)
        images += batch_size
    return images / seconds
