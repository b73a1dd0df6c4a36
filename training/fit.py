"""Recipe -> run folder: model.keras, and all that says how it came about and how good it is."""

import csv
import pathlib
import sys
import time

import keras
import numpy as np

from training.evaluate import evaluate, format_evaluation, predict_probabilities
from training.inpaint import DrawSheets, sheet
from training.pipeline import (
    evaluation_batches,
    even_batch_size,
    masked_batches,
    model_batches,
)
from training.prepare import load_splits, new_model, only_readable, settings
from training.record import describe_run, write_samples
from training.report import write_pretraining_report, write_report
from training.teacher import answers, load_teacher
from training.trainer import (
    EvaluateAverages,
    SaveBest,
    StopOnNaN,
    at_size,
    build_trainer,
    phases,
    resized,
    run_length,
)
from training.tune import fit_head, restrict
from vit_keras.errors import InputError
from vit_keras.files import replacing, write_json
from vit_keras.model import load_model


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
        the evaluation, as `evaluate` gives it, and which split and model it is of.

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
        state = "is not empty"
        if (run / "config.json").exists():
            finished = (run / "report.md").exists()
            state = f"holds {'a finished' if finished else 'an unfinished'} run"
        raise InputError(f"the run folder {run} {state}; name another one with --out.")
    pretrained, config, preprocessing = settings(recipe)
    splits = load_splits(recipe)
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / "config.json", describe_run(recipe, config, preprocessing))
    splits, _ = only_readable(splits, recipe, config.image_size, run)
    train, validation = splits["train"], splits["validation"]

    keras.utils.set_random_seed(recipe.seed)
    model = new_model(recipe, pretrained, config, preprocessing, train.class_names)
    print(_summary(model, recipe, splits, run), flush=True)
    if recipe.tune == "head":
        _probe(model, recipe, train, validation, run)
    else:
        if recipe.head_first:
            fit_head(model, recipe, train, validation)
        _train(model, recipe, train, validation, run, callbacks)

    evaluated = "test" if "test" in splits else "validation"
    model = load_model(run / "model.keras")
    if recipe.pretrain != "none":
        return _conclude_pretraining(model, recipe, splits[evaluated], evaluated, run, started)
    probabilities = predict_probabilities(model, splits[evaluated])
    evaluation = {
        "split": evaluated,
        "model": model.description,
        "seconds": round(time.monotonic() - started, 1),
        **evaluate(probabilities, splits[evaluated]),
    }
    write_json(run / "evaluation.json", evaluation)
    write_samples(splits[evaluated], run / "samples", 2 * max(config.image_size))
    write_report(run, recipe, evaluation, probabilities, splits[evaluated])
    print(f"\n{format_evaluation(evaluation)}\n\nReport: {run / 'report.md'}")
    return evaluation


def _conclude_pretraining(model, recipe, examples, split, run, started):
    """The reconstruction loss on images the model was not trained on, and a sheet of them"""
    batches = _evaluated(examples, model, recipe)
    model.compile(jit_compile=recipe.jit)
    evaluation = {
        "split": split,
        "model": model.description,
        "images": len(examples),
        "loss": model.evaluate(batches, verbose=0),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(run / "evaluation.json", evaluation)
    sheet(model, next(iter(batches))).savefig(run / "inpainting.png", dpi=110)
    write_pretraining_report(run, recipe, evaluation)
    print(f"\nLoss {evaluation['loss']:.4f} on {len(examples):,} images ({split} split)")
    print(f"\nReport: {run / 'report.md'}")
    return evaluation


def _evaluated(examples, model, recipe, cache_mib=0):
    """Batches for `evaluate`, and for validation"""
    batch_size = even_batch_size(len(examples), max(recipe.batch_size, 256))
    batches = evaluation_batches(examples, model.preprocessing, batch_size, cache_mib)
    if recipe.pretrain != "none":
        batches = masked_batches(batches, recipe, model.config.grid, fixed=True)
    return batches


def _train(model, recipe, train, validation, run, callbacks):
    """Fits the model, and saves it as it was after the best epoch."""
    epochs, steps_per_epoch = run_length(recipe, len(train))
    if recipe.accumulate > epochs * steps_per_epoch:
        raise InputError(
            f"accumulate={recipe.accumulate} needs as many steps to change the weights once; the "
            f"run has {epochs * steps_per_epoch}."
        )
    every, trainer = recipe.validate_every, None
    validated = sorted({*range(every, epochs, every), epochs})
    spans = phases(recipe, model.config, epochs)
    if len(spans) <= len(recipe.smaller_first):
        print(f"Note: {epochs} epoch(s) are too few for all sizes of smaller_first.", flush=True)
    teacher = load_teacher(recipe, model) if recipe.teacher else None
    taught = answers(teacher, model, train) if teacher and recipe.teacher_cache else None
    length = steps_per_epoch, epochs, None if taught is not None else teacher
    if recipe.warmup_epochs > epochs / 2:
        print(f"Note: the warm-up is cut to half of the run, {epochs / 2:g} epochs.", flush=True)
    for size, begin, end in spans:
        if trainer:
            model, trainer = at_size(model, trainer, size, recipe, *length)
        else:
            model = resized(model, size, recipe)
            restrict(model, recipe.tune)
            trainer = build_trainer(model, recipe, *length)
        steps, first = end * steps_per_epoch, begin * steps_per_epoch
        batches = model_batches(model, train, recipe, steps, first, taught)
        validated_on = _evaluated(validation, model, recipe, recipe.cache_mib)
        further = list(callbacks)
        if recipe.pretrain != "none":
            seen = next(iter(validated_on))
            further.append(DrawSheets(model, seen, run / "inpainting", recipe.sheet_every))
        # Of each size its own best: the last is what was asked for.
        save_best = SaveBest(model, run / "model.keras", _description(recipe))
        stop = StopOnNaN(steps_per_epoch)
        history = trainer.fit(
            batches,
            initial_epoch=begin,
            epochs=end,
            steps_per_epoch=steps_per_epoch,
            validation_data=validated_on,
            validation_freq=sorted({*validated, end}),
            callbacks=[
                *([EvaluateAverages()] if recipe.ema else []),
                *further,
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


def _description(recipe):
    weights = f"moving average (momentum {recipe.ema}) of the weights" if recipe.ema else "weights"
    return f"{weights} of {recipe.weights or recipe.variant} trained on {recipe.data}"


def _probe(model, recipe, train, validation, run):
    """Fits the head alone on features computed once, and saves the best of several penalties."""
    tries, strength = fit_head(model, recipe, train, validation)
    with open(run / "history.csv", "w", newline="") as file:
        history = csv.DictWriter(file, ["strength", *tries[0][2]])
        history.writeheader()
        history.writerows({"strength": strength, **scores} for strength, _, scores in tries)
    model.description = f"{_description(recipe)}, the head alone, with a penalty of {strength:g}"
    with replacing(run / "model.keras") as path:
        model.save(path)


def _summary(model, recipe, splits, run):
    counts = ", ".join(f"{len(examples):,} {split}" for split, examples in splits.items())
    size = "x".join(map(str, model.config.image_size))
    start = f"; weights from {recipe.weights}, the head is new" if recipe.weights else ""
    teacher = f"; teacher {recipe.teacher}" if recipe.teacher else ""
    learns = f"{len(model.class_names)} classes"
    if recipe.pretrain != "none":
        learns = f"{recipe.pretrain.upper()} of {recipe.mask_ratio:.0%} of the patches"
    return (
        f"{model.name} at {size} px, {model.count_params():,} parameters, "
        f"{learns}; images: {counts}{start}{teacher}; run folder {run}"
    )
