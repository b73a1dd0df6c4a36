"""Recipe -> run folder: model.keras, and all that says how it came about and how good it is."""

import contextlib
import csv
import dataclasses
import math
import pathlib
import sys
import time

import keras
import numpy as np

from training.datasets import find_splits, split_off
from training.evaluate import evaluate, format_evaluation, predict_probabilities
from training.optimizer import build_optimizer
from training.pipeline import evaluation_batches, even_batch_size, read_all, training_batches
from training.recipe import Recipe
from training.record import describe_run, write_samples
from training.report import write_report
from training.tune import features_model, fit_probes, restrict
from vit_keras.errors import InputError
from vit_keras.files import replacing, write_json
from vit_keras.model import build_vit, load_model
from vit_keras.positions import resize_positions
from vit_keras.preprocessing import Preprocessing
from vit_keras.variants import resolve_config
from vit_keras.weights import from_weights


def fit(recipe, out, callbacks=()):
    """Trains by the recipe and fills the run folder.

    The folder gets config.json (recipe, versions, seed, commit), model.keras (the best on the
    validation images), history.csv, tensorboard/, samples/ (a few evaluation images),
    evaluation.json and report.md with its pictures. The test images are looked at once, at the
    end, and never decide anything.

    Args:
        recipe: Recipe.
        out: path of the run folder, which must not exist or be empty.
        callbacks: further Keras callbacks for `model.fit`.

    Returns:
        the evaluation, as `evaluate` gives it, and which split and epoch it is of.

    Raises:
        InputError: for data that cannot be trained on, a config no ViT can be built from, or a
            run folder that is in use.
    """
    started = time.monotonic()
    run = pathlib.Path(out)
    # What a run leaves that stopped before training is no reason to refuse the next.
    if run.exists() and not (
        run.is_dir() and {path.name for path in run.iterdir()} <= {"config.json", "unreadable.txt"}
    ):
        raise InputError(f"the run folder {run} is in use; name another one with --out.")
    if not recipe.data:
        raise InputError("this recipe has no data of its own; name some with --data FOLDER.")
    if not (recipe.weights or recipe.image_size):
        raise InputError("this recipe starts from weights; name some with --weights.")
    pretrained = _pretrained(recipe) if recipe.weights else None
    config, preprocessing = _model_of(recipe, pretrained)
    splits = _load_splits(recipe)
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / "config.json", describe_run(recipe, config, preprocessing))
    splits = _only_readable(splits, recipe, config.image_size, run)
    train, validation = splits["train"], splits["validation"]

    keras.utils.set_random_seed(recipe.seed)
    classes = train.class_names
    labelled = {"preprocessing": preprocessing, "class_names": classes, "num_classes": len(classes)}
    with _dtype_policy(recipe.mixed_precision):
        if pretrained:
            model = from_weights(pretrained, **labelled)
        else:
            model = build_vit(config, name=recipe.variant, **labelled)
    print(_summary(model, recipe, splits, run), flush=True)
    train_model = _probe if recipe.tune == "head" else _train
    best_epoch = train_model(model, recipe, train, validation, run, callbacks)

    evaluated = "test" if "test" in splits else "validation"
    model = load_model(run / "model.keras")
    probabilities = predict_probabilities(model, splits[evaluated])
    evaluation = {
        "split": evaluated,
        "best_epoch": best_epoch,
        "model": model.description,
        "seconds": round(time.monotonic() - started, 1),
        **evaluate(probabilities, splits[evaluated]),
    }
    write_json(run / "evaluation.json", evaluation)
    write_samples(splits[evaluated], run / "samples", 2 * max(config.image_size))
    write_report(run, recipe, evaluation, probabilities, splits[evaluated])
    print(f"\n{format_evaluation(evaluation)}\n\nReport: {run / 'report.md'}")
    return evaluation


class SaveBest(keras.callbacks.Callback):
    """Writes the model, whole, whenever its validation accuracy is the best so far.

    Args:
        vit: the model to write, with the weights that are trained.
        path: of the .keras file.
        weights: what the weights are, for the model's description.
    """

    def __init__(self, vit, path, weights="the weights"):
        super().__init__()
        self.vit = vit
        self.path = path
        self.weights = weights
        self.accuracy = -1.0
        self.epoch = 0  # counted from 1; 0 for none

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        # A model that answers NaN still gets the first class right.
        if not np.isfinite(logs.get("val_loss", np.nan)):
            return
        # Of equals the last: its weights have seen more.
        if logs["val_accuracy"] >= self.accuracy:
            self.accuracy, self.epoch = logs["val_accuracy"], epoch + 1
            self.vit.description = f"{self.weights}, after epoch {epoch + 1}"
            with replacing(self.path) as path:
                self.vit.save(path)


class StopOnNaN(keras.callbacks.Callback):
    """Ends the run where its loss is no longer a number, and keeps the step and the rate.

    Attributes:
        found: "step 120 (learning rate 0.001)", or "".
    """

    def __init__(self, steps_per_epoch):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.found = ""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not (self.found or np.isfinite((logs or {}).get("loss", 0.0))):
            step = self.epoch * self.steps_per_epoch + batch + 1
            rate = float(self.model.optimizer.learning_rate)
            self.found = f"step {step} of epoch {self.epoch + 1} (learning rate {rate:.3g})"
            self.model.stop_training = True


def build_trainer(model, recipe, steps_per_epoch, epochs):
    """The same weights under another model, compiled, so that what is saved has no optimizer."""
    loss = {"softmax": keras.losses.CategoricalCrossentropy,
            "sigmoid": keras.losses.BinaryCrossentropy}[recipe.loss]  # fmt: skip
    with _dtype_policy(recipe.mixed_precision):  # float16 needs its loss scaled
        trainer = keras.Model(model.input, model.output, name=model.name)
        trainer.compile(
            build_optimizer(recipe, steps_per_epoch, epochs, model.config.depth),
            loss(from_logits=True),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            jit_compile=recipe.jit,
            steps_per_execution=math.gcd(recipe.steps_per_execution, steps_per_epoch),
        )
    return trainer


def run_length(recipe, images):
    """(epochs, steps per epoch) of a run on so many images."""
    per_epoch = max(1, round(images / recipe.batch_size))
    if not recipe.steps:
        return recipe.epochs, per_epoch
    epochs = max(1, round(recipe.steps / per_epoch))
    return epochs, round(recipe.steps / epochs)


def phases(recipe, config, epochs):
    """[(image size, first epoch, last epoch + 1), ...]: smaller images first, as the recipe asks.

    Sizes are rounded to whole patches.
    """
    spans, begin = [], 0
    for scale, share in recipe.smaller_first:
        end = min(epochs - 1, begin + round(share * epochs))
        patch = config.patch_size
        size = tuple(max(1, round(scale * side / patch)) * patch for side in config.image_size)
        spans.append((size, begin, end))
        begin = end
    spans.append((config.image_size, begin, epochs))
    return [span for span in spans if span[1] < span[2]]


def _train(model, recipe, train, validation, run, callbacks):
    """Fits the model, saving the best, and returns the number of that epoch, from 1."""
    epochs, steps_per_epoch = run_length(recipe, len(train))
    every, trainer = recipe.validate_every, None
    validated = sorted({*range(every, epochs, every), epochs})
    for size, begin, end in phases(recipe, model.config, epochs):
        grid, before = model.config.grid, trainer
        if size != model.config.image_size:
            with _dtype_policy(recipe.mixed_precision):
                model = from_weights(model, image_size=size, name=model.name)
        restrict(model, recipe.tune)
        trainer = build_trainer(model, recipe, steps_per_epoch, epochs)
        if before:
            trainer.optimizer.build(trainer.trainable_variables)
            carry_over(before.optimizer, trainer.optimizer, grid, model.config.grid)
        # Of each size its own best: the last is what was asked for.
        save_best = SaveBest(model, run / "model.keras", _description(recipe))
        stop = StopOnNaN(steps_per_epoch)
        batch_size = even_batch_size(len(validation), max(recipe.batch_size, 256))
        history = trainer.fit(
            training_batches(
                train, recipe, model.preprocessing, end * steps_per_epoch, begin * steps_per_epoch
            ),
            initial_epoch=begin,
            epochs=end,
            steps_per_epoch=steps_per_epoch,
            validation_data=evaluation_batches(
                validation, model.preprocessing, batch_size, recipe.cache_mib
            ),
            validation_freq=sorted({*validated, end}),
            callbacks=[
                *callbacks,
                *([keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if recipe.ema else []),
                save_best,
                stop,
                keras.callbacks.CSVLogger(run / "history.csv", append=True),
                keras.callbacks.TensorBoard(run / "tensorboard", write_graph=False),
            ],
            shuffle=False,  # the batches are shuffled
            verbose=1 if sys.stdout.isatty() else 2,
        )
        if stop.found or not (save_best.epoch and np.isfinite(history.history["loss"][-1])):
            path, where = run / "model.keras", stop.found or f"the validation of epoch {end}"
            good = f"the last good model is {path}" if path.exists() else "no model yet"
            raise InputError(
                f"the loss was no longer finite at {where}; {good}. Try a lower learning_rate than "
                f"{recipe.learning_rate}, a longer warm-up, or clip_norm=1."
            )
    return save_best.epoch


def carry_over(before, after, old_grid, new_grid):
    """Gives an optimizer the state of another one for the same model at another image size."""
    for old, new in zip(before.variables, after.variables, strict=True):
        value = np.asarray(old)
        if value.shape != new.shape:  # of a table of positions; bilinear: squares stay above 0
            value = resize_positions(value[0], old_grid, new_grid, "corners")[np.newaxis]
        new.assign(value)


def _description(recipe):
    weights = f"moving average (momentum {recipe.ema}) of the weights" if recipe.ema else "weights"
    return f"{weights} of {recipe.weights or recipe.variant} trained on {recipe.data}"


def _probe(model, recipe, train, validation, run, callbacks):
    """Fits the head alone on features computed once, saves it, and returns which try was best."""
    encoder = features_model(model)

    def features(examples):
        batches = evaluation_batches(examples, model.preprocessing, recipe.batch_size)
        return encoder.predict(batches.map(lambda images, labels: images)), examples.labels

    tries = list(fit_probes(features(train), features(validation)))
    with open(run / "history.csv", "w", newline="") as file:
        history = csv.DictWriter(file, ["strength", *tries[0][2]])
        history.writeheader()
        history.writerows({"strength": strength, **scores} for strength, _, scores in tries)
    best = max(range(len(tries)), key=lambda number: tries[number][2]["val_accuracy"])
    strength, head, _ = tries[best]
    model.get_layer("head").set_weights(head)
    model.description = f"{_description(recipe)}, the head alone, with a penalty of {strength:g}"
    with replacing(run / "model.keras") as path:
        model.save(path)
    return best + 1


def _pretrained(recipe):
    """The model that the recipe's weights tell, without its head, at the recipe's image size"""
    model = from_weights(
        recipe.weights, num_classes=0, image_size=recipe.image_size or None, **recipe.model
    )
    if model.config.channels != recipe.channels:
        raise InputError(
            f"the weights {recipe.weights} are for images of {model.config.channels} channels. Got "
            f"channels={recipe.channels}; try --set channels={model.config.channels}."
        )
    return model


_PREPROCESSING = {  # its fields: the recipe's
    "resize": "resize",
    "crop": "crop_fraction",
    "interpolation": "interpolation",
    "mean": "mean",
    "std": "std",
}


def _model_of(recipe, pretrained=None):
    """The ViTConfig (still without its classes) and Preprocessing that a recipe asks for."""
    stated = {field: getattr(recipe, name) for field, name in _PREPROCESSING.items()}
    if pretrained:
        stated = {
            field: value
            for field, value in stated.items()
            if value != getattr(Recipe, _PREPROCESSING[field])
        }
    for field in stated.keys() & {"mean", "std"}:
        stated[field] = stated[field] * (recipe.channels if len(stated[field]) == 1 else 1)
    if pretrained:
        return pretrained.config, dataclasses.replace(pretrained.preprocessing, **stated)
    config = resolve_config(
        recipe.variant, image_size=recipe.image_size, channels=recipe.channels, **recipe.model
    )
    return config, Preprocessing(config.image_size, **stated)


def _load_splits(recipe):
    """{"train", "validation", perhaps "test": Examples}, of which nothing has been decoded yet."""
    spelled = {
        "train": recipe.train_split,
        "validation": recipe.validation_split,
        "test": recipe.test_split,
    }
    found = find_splits(recipe.data, recipe.channels, spelled, recipe.data_dir)
    if "train" not in found:
        raise InputError(f"{recipe.data} has no training images; it has: {', '.join(found)}.")
    splits = {split: load() for split, load in found.items()}
    _check_classes(splits["train"], recipe)
    if "validation" not in splits:
        splits["train"], splits["validation"] = split_off(
            splits["train"], recipe.validation_fraction, recipe.seed
        )
    return splits


def _check_classes(train, recipe):
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    if len(counts) < 2:
        raise InputError(
            f"{recipe.data} has only the class {train.class_names[0]!r}; "
            f"training needs images of two or more."
        )
    if not counts.all():
        raise InputError(
            f"class {train.class_names[counts.argmin()]!r} has no readable training images in "
            f"{recipe.data}. Add some, or remove the class."
        )


def _only_readable(splits, recipe, image_size, run):
    """Leaves out unreadable images and lists them; keeps small sets of images in memory."""
    readable, reasons = {}, dict[str, str]()
    for split, examples in splits.items():
        # Only what is read again and again is worth keeping.
        cache_mib = recipe.cache_mib if split == "train" else 0
        side = 2 * max(image_size) if split == "train" else None
        readable[split], found = read_all(examples, cache_mib, side)
        reasons |= found
    if reasons:
        lines = [f"{name}\t{reason}" for name, reason in reasons.items()]
        (run / "unreadable.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        total = sum(map(len, splits.values()))
        first = lines[0].replace("\t", ": ")
        share = f"{len(reasons)} of {total} images cannot be read ({first}"
        share += f", ...); all are listed in {run / 'unreadable.txt'}"
        if len(reasons) > recipe.max_unreadable * total:
            raise InputError(
                f"{share}. That is more than max_unreadable={recipe.max_unreadable}: repair or "
                f"remove them, or allow more with --set max_unreadable=0.5."
            )
        print(f"Warning: {share}. They are left out.", flush=True)
        _check_classes(readable["train"], recipe)
    return readable


def _summary(model, recipe, splits, run):
    counts = ", ".join(f"{len(examples):,} {split}" for split, examples in splits.items())
    size = "x".join(map(str, model.config.image_size))
    start = f"; weights from {recipe.weights}, the head is new" if recipe.weights else ""
    return (
        f"{model.name} at {size} px, {model.count_params():,} parameters, "
        f"{len(model.class_names)} classes; images: {counts}{start}; run folder {run}"
    )


@contextlib.contextmanager
def _dtype_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
