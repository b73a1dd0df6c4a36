"""Recipe -> data.md and sheet.png: what the model will see, how much of it, and how fast."""

import dataclasses
import itertools
import pathlib
import time

import keras
import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from training.data.pipeline import model_batches, training_batches
from training.data.sampling import balanced_weights
from training.data.splits import load_splits, only_readable
from training.model.build import new_model, settings
from training.model.fine_tuning import restrict
from training.model.trainer import build_trainer
from training.reports.figures import plain, save
from training.reports.html import escape
from training.tasks.distillation import load_teacher
from vit_keras.utils.errors import InputError

SHEET = 40  # images
SECONDS = 5  # of each measurement


def show(recipe, out):
    """Writes what a run by this recipe would train on, without running it, and prints the text.

    The folder gets data.md (classes with their images, unreadable files, images a second),
    sheet.png (the first training images, augmented, with their labels) and unreadable.txt.

    Args:
        recipe: Recipe.
        out: path of the folder; one that was written by this function may be written again.

    Raises:
        InputError: for data no run could start on, and for a folder that holds anything else.
    """
    out = pathlib.Path(out)
    own = {"data.md", "sheet.png", "unreadable.txt"}
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= own):
        raise InputError(f"the folder {out} holds other things; name another one with --out.")
    pretrained, config, preprocessing = settings(recipe)
    splits = load_splits(recipe)
    out.mkdir(parents=True, exist_ok=True)
    (out / "unreadable.txt").unlink(missing_ok=True)
    tolerant = dataclasses.replace(recipe, max_unreadable=0.99)
    splits, unreadable = only_readable(splits, tolerant, config.image_size, out)
    train = splits["train"]
    keras.utils.set_random_seed(recipe.seed)
    model = new_model(recipe, pretrained, config, preprocessing, train.class_names)

    save(sheet(train, recipe, preprocessing), out / "sheet.png")
    text = f"""# {recipe.data}

{balance(splits, recipe)}

{_unreadable(unreadable)}

{_rates(model, recipe, train)}

![training images as the model sees them](sheet.png)
"""
    (out / "data.md").write_text(text, encoding="utf-8")
    print(f"{text}\nWritten to {out}.")


def sheet(examples, recipe, preprocessing):
    """The first images of a run, augmented and mixed in one batch, with their labels -> Figure"""
    plainly = dataclasses.replace(recipe, label_smoothing=0.0, batch_size=SHEET)
    images, labels = next(iter(training_batches(examples, plainly, preprocessing, 1)))[:2]
    images = np.asarray(images) * preprocessing.std + preprocessing.mean
    columns = 8
    rows = SHEET // columns
    figure = Figure(figsize=(1.6 * columns, 1.9 * rows), layout="constrained")
    names = plain(examples.class_names)
    grid = figure.subplots(rows, columns).ravel()
    for axes, image, label in zip(grid, images, np.asarray(labels), strict=True):
        axes.axis("off")
        axes.imshow(image.clip(0, 1), cmap="gray", vmin=0, vmax=1)
        if recipe.pretrain != "none":
            continue
        shares = [f"{names[k]} {label[k]:.0%}" for k in np.argsort(-label)[:2] if label[k] >= 0.005]
        axes.set_title("\n".join(shares) if len(shares) > 1 else shares[0][:-5], fontsize=7.5)
    return figure


def balance(splits, recipe):
    """Images of each class in each split, and what balancing would make of them -> Markdown"""
    if recipe.pretrain != "none":
        listed = (f"{len(examples):,} {split}" for split, examples in splits.items())
        return f"Images, without labels: {', '.join(listed)}."
    names = splits["train"].class_names
    counts = {
        split: np.bincount(examples.labels, minlength=len(names))
        for split, examples in splits.items()
    }
    weights = balanced_weights(splits["train"])
    rows = [
        (escape(name), *(counts[split][k] for split in counts), weights[k])
        for k, name in enumerate(names)
    ]
    rows.append(("all", *(len(examples) for examples in splits.values()), ""))
    table = tabulate(
        rows, ("class", *counts, "weight if balanced"), tablefmt="github", floatfmt=".2f"
    )
    ratio = counts["train"].max() / max(1, counts["train"].min())
    advice = {
        "none": "Try --set balance=sampling or --set balance=weights." if ratio > 3 else "",
        "sampling": "Every class is drawn equally often.",
        "weights": "Losses are weighed by the last column.",
    }[recipe.balance]
    return (
        f"{table}\n\nThe largest class has {ratio:.1f} times the images of the smallest. {advice}"
    )


def _unreadable(reasons):
    if not reasons:
        return "All images can be read."
    listed = "\n".join(
        f"- {name}: {reason}" for name, reason in itertools.islice(reasons.items(), 10)
    )
    return f"Images that cannot be read: {len(reasons)}, all in unreadable.txt.\n\n{listed}"


class _Clock(keras.callbacks.Callback):
    """Counts steps, from the third on, until SECONDS are over."""

    def on_train_batch_end(self, batch, logs=None):
        if batch < 2:  # tracing, compiling
            self.start = time.perf_counter()
        else:
            self.steps, self.seconds = batch - 1, time.perf_counter() - self.start
            self.model.stop_training = self.seconds >= SECONDS


def _rates(model, recipe, examples):
    """Images a second that the pipeline gives, and that train the model -> Markdown"""
    recipe = dataclasses.replace(recipe, steps_per_execution=1)
    batches = model_batches(model, examples, recipe, 2**31)
    iterator = iter(batches)
    next(iterator)
    start, images = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < SECONDS:
        next(iterator)
        images += recipe.batch_size
    alone = images / seconds
    size = "x".join(map(str, model.config.image_size))
    if recipe.tune == "head":
        return f"At {size} px the pipeline gives {alone:,.0f} images a second."
    clock = _Clock()
    restrict(model, recipe.tune)
    teacher = load_teacher(recipe, model) if recipe.teacher else None
    trainer = build_trainer(model, recipe, 10**6, 1, teacher)
    trainer.fit(batches, steps_per_epoch=10**6, callbacks=[clock], verbose=0, shuffle=False)
    together = clock.steps * recipe.batch_size / clock.seconds
    waits = together > 0.8 * alone
    verdict = "often; a larger cache_mib or smaller images help" if waits else "seldom"
    return (
        f"At {size} px the pipeline alone gives {alone:,.0f} images a second, and training takes "
        f"{together:,.0f}: the model waits for images {verdict}."
    )
