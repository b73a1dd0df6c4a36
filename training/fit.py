"""Recipe -> run folder: data, model, task, fit, evaluate, report."""

import contextlib
import json
import pathlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from training.data.examples import Examples
from training.data.splits import load_splits, readable_splits
from training.distribution.data_service import check_service
from training.distribution.devices import Devices, find_devices, watching
from training.loop import Setup, TrainingLoop, describe_weights
from training.model.build import ModelPlan, plan_model
from training.model.linear_probe import fit_head, write_probes
from training.recipe import Recipe
from training.reports.sections import write_report
from training.runs.checkpoint import Checkpoint, fingerprint, latest_checkpoint
from training.runs.folder import RunFolder
from training.runs.interrupt import stop_on_signal
from training.runs.provenance import describe_run
from training.tasks import TASKS
from vit_keras import ViT
from vit_keras.model import load_model
from vit_keras.utils.errors import InputError
from vit_keras.utils.files import replacing, write_json


def fit(
    recipe: Recipe,
    out: pathlib.Path | str,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    resume: bool = False,
    distribute: str = "none",
    data_service: str = "",
) -> dict[str, Any] | None:
    """Trains by the recipe and fills the run folder, see `RunFolder` for its files.

    The test images are used once, at the end, and never decide anything.

    Args:
        recipe: Recipe.
        out: path of the run folder, which must not exist or be empty.
        callbacks: further Keras callbacks for `model.fit`.
        resume: whether to continue the run in that folder, which was started with this recipe and
            interrupted; it then ends as if it had not been.
        distribute: "none", or a key of DEVICES of training/distribution/tensorflow_devices.py or
            jax_devices.py.
        data_service: 'HOST:PORT' of a tf.data service that reads and augments the images. It
            returns them in a different order each time: the run cannot be repeated bit for bit.

    Returns:
        The content of evaluation.json; None in a worker that is not the first one.

    Raises:
        InputError: for data that cannot be trained on, a config no ViT can be built from, or a
            run folder that is in use.
    """
    started = time.monotonic()
    run = RunFolder(pathlib.Path(out))
    run.check_usable(resume)  # before other workers wait for this one
    devices = find_devices(distribute)
    devices.check(recipe)
    if data_service:
        check_service(data_service, devices)
    TASKS[recipe.task].check_sources(recipe)
    plan = plan_model(recipe)
    splits = _load_splits(recipe)
    with _own_folder(run, devices) as own, _vanished_images():
        if resume:
            run.note_changed_versions()
            started -= run.duration().get("training_seconds", 0)
        elif devices.chief:
            write_json(run.config, describe_run(recipe, plan.config, plan.preprocessing))
        splits = _readable(splits, recipe, plan, own)
        setup = Setup(recipe, splits, own, devices, data_service)
        _train(setup, plan, run, resume, callbacks)
        if not devices.chief:
            return None
        evaluation = _evaluate(recipe, splits, run, started)
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        return evaluation


def _load_splits(recipe: Recipe) -> dict[str, Examples]:
    labelled = TASKS[recipe.task].labelled
    return load_splits(recipe.data, recipe.model.channels, recipe.execution.seed, labelled)


@contextlib.contextmanager
def _own_folder(run: RunFolder, devices: Devices) -> Iterator[RunFolder]:
    """The run folder, locked, in the first worker; the others write to a scratch folder."""
    if devices.chief:
        run.path.mkdir(parents=True, exist_ok=True)
        with run.lock():
            yield run
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield RunFolder(pathlib.Path(scratch))


def _readable(splits, recipe, plan, own):
    labelled = TASKS[recipe.task].labelled
    size = plan.config.image_size
    readable, _ = readable_splits(splits, recipe.data, size, own.unreadable, labelled)
    return readable


def _train(
    setup: Setup,
    plan: ModelPlan,
    run: RunFolder,
    resume: bool,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Builds the model and trains it, on all devices."""
    recipe, splits, devices = setup.recipe, setup.splits, setup.devices
    keras.utils.set_random_seed(recipe.execution.seed)
    start = latest_checkpoint(run.checkpoints) if resume else None
    images = fingerprint(splits["train"], splits["validation"])
    services = {"the data service": setup.data_service} if setup.data_service else {}
    with devices.scope(), watching(services):
        step = str(start and start.step)
        devices.check_agreement(images, json.dumps(recipe.as_dict()), step)
        _check_images(start, images, recipe, run)
        class_names = splits["train"].class_names
        model = setup.task.build_model(recipe, plan, class_names)
        print(_summary(model, setup, run), flush=True)
        if recipe.fine_tuning.trainable == "head":
            _fit_probe(model, setup)
            return
        # A single one of several workers cannot stop, or save, within an epoch.
        never = contextlib.nullcontext(threading.Event())
        with never if devices.workers else stop_on_signal() as stop_event:
            TrainingLoop(setup, model, images, stop_event, start, callbacks).run()


def _check_images(start: Checkpoint | None, images: str, recipe: Recipe, run: RunFolder) -> None:
    if start and start.images != images:
        raise InputError(
            f"the images of {recipe.data.dataset} are not those that the run in {run} was started "
            f"with."
        )


def _evaluate(
    recipe: Recipe, splits: dict[str, Examples], run: RunFolder, started: float
) -> dict[str, Any]:
    """Evaluates the saved model; writes evaluation.json, the task's files and the report."""
    task = TASKS[recipe.task]
    split = "test" if "test" in splits else "validation"
    model = load_model(run.model)
    result = task.evaluate(model, splits[split], recipe)
    evaluation = {
        "split": split,
        "model": model.description,
        "splits": {split: len(examples) for split, examples in splits.items()},
        "parameters": model.count_params(),
        "bytes": run.model.stat().st_size,
        "seconds": round(time.monotonic() - started, 1),
        **run.duration(),
        **result.metrics,
    }
    run.write_evaluation(evaluation)
    report = task.report(run, recipe, model, splits[split], evaluation, result.predictions)
    write_report(run, recipe, evaluation, report)
    print(f"\n{task.format(evaluation)}\n\nReport: {run.report.with_suffix('.html')}")
    return evaluation


def _fit_probe(model: ViT, setup: Setup) -> None:
    """Fits the head alone on features computed once, and saves the best of several penalties."""
    recipe, run = setup.recipe, setup.run
    batch_size, balanced = recipe.optimization.batch_size, recipe.data.balance != "none"
    train, validation = setup.splits["train"], setup.splits["validation"]
    probes, best = fit_head(model, train, validation, batch_size, balanced)
    write_probes(run.history, probes)
    weights = describe_weights(recipe)
    model.description = f"{weights}, the head alone, with a penalty of {best.strength:g}"
    model.trained_on = recipe.data.dataset
    with replacing(run.model) as path:
        model.save(path)


@contextlib.contextmanager
def _vanished_images() -> Iterator[None]:
    """Raises OSError where an image can no longer be read."""
    try:
        yield
    except tf.errors.OpError as error:
        if "IteratorGetNext" not in error.message:
            raise
        line = [line for line in error.message.splitlines() if line and line[0] != "\t"][-1]
        reason = re.sub(r"^.*Iterator::\S+: ", "", line)
        raise OSError(f"an image can no longer be read: {reason}") from None


def _summary(model: ViT, setup: Setup, run: RunFolder) -> str:
    """One line about the run: model, size, task, images, weights, folder."""
    recipe = setup.recipe
    counts = ", ".join(f"{len(examples):,} {split}" for split, examples in setup.splits.items())
    size = "x".join(map(str, model.config.image_size))
    sources = ""
    if recipe.model.weights:
        sources += f"; weights from {recipe.model.weights}, the head is new"
    if recipe.distillation.teacher:
        sources += f"; teacher {recipe.distillation.teacher}"
    return (
        f"{model.name} at {size} px, {model.count_params():,} parameters, "
        f"{setup.task.summary(recipe, model)}; images: {counts}{sources}; run folder {run}"
    )
