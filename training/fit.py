"""Recipe -> run folder: model.keras, and all that says how it came about and how good it is."""

import contextlib
import csv
import json
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import time
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from training.callbacks import EvaluateAverages, SaveBest, StopOnNaN, WriteCheckpoints, WritePace
from training.data.masking import masked_batches
from training.data.pipeline import evaluation_batches, even_batch_size, model_batches
from training.data.splits import load_splits, only_readable
from training.distribution.data_service import check_service
from training.distribution.devices import find_devices, watching
from training.model.build import new_model, settings
from training.model.fine_tuning import restrict
from training.model.linear_probe import fit_head
from training.model.trainer import at_size, build_trainer, phases, resized, run_length
from training.reports.classification import write_report
from training.reports.figures import save
from training.reports.masked import write_pretraining_report
from training.reports.metrics import evaluate, format_evaluation
from training.runs.checkpoint import fingerprint, latest, stop_when_asked, stretches
from training.runs.folder import (
    alone_in,
    check_state,
    compare_versions,
    cost,
    run_totals,
    truncate_logs,
    write_predictions,
    write_samples,
)
from training.runs.provenance import describe_run
from training.tasks.classification import predict_probabilities
from training.tasks.distillation import answers, load_teacher
from training.tasks.masked import SHEET, DrawSheets, sheet
from vit_keras.config import as_image_size
from vit_keras.model import load_model
from vit_keras.utils.errors import InputError
from vit_keras.utils.files import replacing, write_json


def fit(recipe, out, callbacks=(), resume=False, distribute="none", data_service=""):
    """Trains by the recipe and fills the run folder.

    The folder gets config.json (recipe, versions, seed, commit), model.keras (the best on the
    validation images), history.csv, pace.csv, tensorboard/, samples/ (a few evaluation images),
    evaluation.json, predictions.csv, and report.html and report.md with their pictures. The test
    images are looked at once, at the end, and never decide anything.

    Args:
        recipe: Recipe.
        out: path of the run folder, which must not exist or be empty.
        callbacks: further Keras callbacks for `model.fit`.
        resume: whether to go on with the run in that folder, which was begun with this recipe and
            ended in the middle; it then ends as if it had not.
        distribute: "none", or a key of DEVICES of training/distribute_tensorflow.py or _jax.py.
        data_service: 'HOST:PORT' of a tf.data service that reads and augments the images. It gives
            them in another order each time: the run cannot be repeated bit for bit.

    Returns:
        the evaluation, as `evaluate` gives it, and which split and model it is of; None in a
        worker that is not the first one.

    Raises:
        InputError: for data that cannot be trained on, a config no ViT can be built from, or a
            run folder that is in use.
    """
    started = time.monotonic()
    run = pathlib.Path(out)
    with contextlib.ExitStack() as stack:
        check_state(run, resume)  # before there are others that wait
        devices = find_devices(distribute)
        devices.check(recipe)
        if data_service:
            check_service(data_service, devices)
        pretrained, config, preprocessing = settings(recipe)
        splits = load_splits(recipe)
        if devices.chief:
            run.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone_in(run))
            folder = run
        else:  # what it writes nobody needs
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(_vanished_images())
        if resume:
            compare_versions(run)
            started -= cost(run / "pace.csv").get("training_seconds", 0)
        elif devices.chief:
            write_json(run / "config.json", describe_run(recipe, config, preprocessing))
        splits, _ = only_readable(splits, recipe, config.image_size, folder)
        keras.utils.set_random_seed(recipe.seed)
        start = latest(run / "checkpoints") if resume else None
        images = fingerprint(splits["train"], splits["validation"])
        services = {"the data service": data_service} if data_service else {}
        with devices.scope(), watching(services):
            devices.check_agreement(images, json.dumps(recipe.as_dict()), str(start and start.step))
            if start and start.images != images:
                raise InputError(
                    f"the images of {recipe.data} are not those that the run in {run} was begun "
                    f"with."
                )
            class_names = splits["train"].class_names
            model = new_model(recipe, pretrained, config, preprocessing, class_names)
            print(_summary(model, recipe, splits, run), flush=True)
            if recipe.tune == "head":
                _probe(model, recipe, splits["train"], splits["validation"], folder)
            else:
                # Of several workers none can stop, or save, inside of an epoch by itself.
                several = contextlib.nullcontext(threading.Event())
                with several if devices.workers else stop_when_asked() as asked:
                    state = start, images, asked
                    _train(model, recipe, splits, folder, devices, data_service, callbacks, *state)
        if not devices.chief:
            return None
        evaluation = _conclude(recipe, splits, run, started)
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        return evaluation


def _conclude(recipe, splits, run, started):
    """Evaluates the model that was saved, and writes what the run is told by."""
    evaluated = "test" if "test" in splits else "validation"
    model = load_model(run / "model.keras")
    if recipe.pretrain != "none":
        return _conclude_pretraining(model, recipe, splits, evaluated, run, started)
    probabilities = predict_probabilities(model, splits[evaluated])
    evaluation = {
        "split": evaluated,
        "model": model.description,
        **run_totals(run, model, splits, started),
        **evaluate(probabilities, splits[evaluated]),
    }
    write_json(run / "evaluation.json", evaluation)
    write_predictions(run / "predictions.csv", probabilities, splits[evaluated])
    short_side = 2 * max(as_image_size(model.config.image_size))
    write_samples(splits[evaluated], run / "samples", short_side)
    write_report(run, recipe, evaluation, probabilities, splits[evaluated], model)
    print(f"\n{format_evaluation(evaluation)}\n\nReport: {run / 'report.html'}")
    return evaluation


def _conclude_pretraining(model, recipe, splits, split, run, started):
    """The reconstruction loss on images the model was not trained on, and a sheet of them"""
    examples = splits[split]
    batches = _evaluated(examples, model, recipe)
    model.compile(jit_compile=recipe.jit)
    evaluation = {
        "split": split,
        "model": model.description,
        "images": len(examples),
        "loss": model.evaluate(batches, verbose=0),
        **run_totals(run, model, splits, started),
    }
    write_json(run / "evaluation.json", evaluation)
    save(sheet(model, _shown(examples, model, recipe)), run / "inpainting.png")
    write_pretraining_report(run, recipe, evaluation)
    print(f"\nLoss {evaluation['loss']:.4f} on {len(examples):,} images ({split} split)")
    print(f"\nReport: {run / 'report.html'}")
    return evaluation


def _evaluated(examples, model, recipe, cache_mib=0):
    """Batches for `evaluate`, and for validation"""
    batch_size = even_batch_size(len(examples), max(recipe.batch_size, 256))
    batches = evaluation_batches(examples, model.preprocessing, batch_size, cache_mib)
    if recipe.pretrain != "none":
        batches = masked_batches(batches, recipe, model.config.grid)
    return batches


def _shown(examples, model, recipe):
    """A batch of images from all over the examples, for a sheet"""
    spread = np.linspace(0, len(examples) - 1, min(SHEET, len(examples))).astype(int)
    return next(iter(_evaluated(examples.subset(spread), model, recipe)))


def _train(model, recipe, splits, run, devices, service, callbacks, start, images, asked):
    """Fits the model, and saves it as it was after the best epoch."""
    train, validation = splits["train"], splits["validation"]
    recipe = devices.adapted(recipe)
    epochs, per_epoch = run_length(recipe, len(train))
    if recipe.accumulate > epochs * per_epoch:
        raise InputError(
            f"accumulate={recipe.accumulate} needs as many steps to change the weights once; the "
            f"run has {epochs * per_epoch}."
        )
    done = start.step if start else 0
    truncate_logs(run, done // per_epoch)
    if recipe.head_first and not start:
        fit_head(model, recipe, train, validation)
    every, trainer = recipe.validate_every, None
    validated = sorted({*range(every, epochs, every), epochs})
    spans = phases(recipe, model.config, epochs)
    if len(spans) <= len(recipe.smaller_first):
        print(f"Note: {epochs} epoch(s) are too few for all sizes of smaller_first.", flush=True)
    teacher = load_teacher(recipe, model) if recipe.teacher else None
    taught = answers(teacher, model, train) if teacher and recipe.teacher_cache else None
    length = per_epoch, epochs, None if taught is not None else teacher
    if recipe.warmup_epochs > epochs / 2:
        print(f"Note: the warm-up is cut to half of the run, {epochs / 2:g} epochs.", flush=True)
    for size, begin, end in spans:
        if end * per_epoch <= done:
            continue
        if trainer:
            model, trainer = at_size(model, trainer, size, recipe, *length)
        else:
            model = resized(model, size, recipe)
            restrict(model, recipe.tune)
            trainer = build_trainer(model, recipe, *length)
        validated_on = _evaluated(validation, model, recipe, recipe.cache_mib)
        validated_on = devices.validation(validated_on, len(validation))
        further = list(callbacks)
        if recipe.pretrain != "none":
            seen = _shown(validation, model, recipe)
            further.append(DrawSheets(model, seen, run / "inpainting", recipe.sheet_every))
        # Of each size its own best: the last is what was asked for.
        save_best = SaveBest(model, run / "model.keras", _description(recipe))
        stop = StopOnNaN(per_epoch)
        if start:
            _restore(start, trainer, model, save_best, validated_on)
            print(f"Going on from step {done} of {epochs * per_epoch}.", flush=True)
        between = not (devices.workers or service)
        write = WriteCheckpoints(
            *(run / "checkpoints", model, save_best, images, per_epoch),
            *(recipe.checkpoint_every, asked, between, start),
        )
        start = None
        # An epoch that was begun is finished by itself; a service mixes what it is given at once.
        steps = max(done, begin * per_epoch), end * per_epoch, per_epoch
        for first, last in stretches(*steps, apart=bool(service)):
            batches = model, train, recipe, last, first, taught
            history = trainer.fit(
                devices.training(partial(model_batches, *batches, service=service)),
                initial_epoch=first // per_epoch,
                epochs=last // per_epoch,
                steps_per_epoch=min(per_epoch, last - first),
                validation_data=validated_on,
                validation_freq=sorted({*validated, end}),
                callbacks=[
                    *([EvaluateAverages()] if recipe.ema else []),
                    *further,
                    save_best,
                    stop,
                    write,
                    keras.callbacks.CSVLogger(run / "history.csv", append=True),
                    keras.callbacks.TensorBoard(run / "tensorboard", write_graph=False),
                    WritePace(run / "pace.csv", recipe.batch_size),
                ],
                shuffle=False,  # the batches are shuffled
                verbose=(1 if sys.stdout.isatty() else 2) if devices.chief else 0,
            )
            if stop.found:
                break
            if write.step < last:
                raise OSError(
                    f"the images ended at step {write.step} of {last}: the data service has lost a "
                    f"worker, with what that had in hand"
                )
        if stop.found or not (save_best.epoch and np.isfinite(history.history["loss"][-1])):
            where = stop.found or f"the validation of epoch {end}"
            raise _not_finite(where, run / "model.keras", recipe.learning_rate)


def _restore(start, trainer, model, save_best, batches):
    """Puts a trainer, and the best so far, where they were at a checkpoint."""
    trainer.optimizer.build(trainer.trainable_variables)
    trainer.evaluate(batches.take(1), verbose=0)  # which makes the metrics
    start.restore("model", model.variables)
    start.restore("optimizer", trainer.optimizer.variables)
    save_best.best, save_best.epoch = start.best["best"], start.best["epoch"]


def _not_finite(where, path, learning_rate):
    good = f"the last good model is {path}" if path.exists() else "no model yet"
    return InputError(
        f"the loss was no longer finite at {where}; {good}. Try a lower learning_rate than "
        f"{learning_rate}, a longer warm-up, or clip_norm=1."
    )


@contextlib.contextmanager
def _vanished_images():
    """Raises OSError where an image cannot be read any more that could be before."""
    try:
        yield
    except tf.errors.OpError as error:
        if "IteratorGetNext" not in error.message:
            raise
        line = [line for line in error.message.splitlines() if line and line[0] != "\t"][-1]
        reason = re.sub(r"^.*Iterator::\S+: ", "", line)
        raise OSError(f"an image that was there cannot be read: {reason}") from None


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
