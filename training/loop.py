"""Model + images + recipe -> the trained model, phase by phase of the run."""

import dataclasses
import functools
import pathlib
import sys
import threading
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.callbacks import (
    BestModel,
    CheckpointSchedule,
    CheckpointWriter,
    EvaluateEMA,
    StopOnNaN,
    ThroughputLogger,
)
from training.data.examples import Examples
from training.data.pipeline import training_batches
from training.distribution.devices import Devices
from training.model.fine_tuning import restrict
from training.model.linear_probe import fit_head
from training.model.trainer import (
    Objective,
    Phase,
    build_trainer,
    model_at_size,
    phases,
    run_length,
    trainer_at_size,
)
from training.recipe import Recipe
from training.runs.checkpoint import Checkpoint, epoch_spans
from training.runs.folder import RunFolder
from training.tasks import TASKS
from training.tasks.task import Task
from vit_keras import ViT
from vit_keras.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a run works with.

    Attributes:
        recipe: Recipe.
        splits: {"train", "validation", ...: Examples}, all readable.
        run: RunFolder that this process writes to.
        devices: Devices.
        data_service: 'HOST:PORT' of a tf.data service, or "".
    """

    recipe: Recipe
    splits: dict[str, Examples]
    run: RunFolder
    devices: Devices
    data_service: str = ""

    @property
    def task(self) -> Task:
        """The recipe's task."""
        return TASKS[self.recipe.task]


class TrainingLoop:
    """Fits a model through all phases of a run, and saves the best one.

    Args:
        setup: Setup.
        model: the model to train.
        images: `fingerprint` of the images of the run.
        stop_event: set when the run has to stop.
        start: Checkpoint from which the run is resumed, or None.
        callbacks: further Keras callbacks.
    """

    def __init__(
        self,
        setup: Setup,
        model: ViT,
        images: str,
        stop_event: threading.Event,
        start: Checkpoint | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        self.setup = setup
        self.recipe = setup.devices.adapted(setup.recipe)
        self.model = model
        self._trainer: Any = None  # of the current phase
        self.images = images
        self.stop_event = stop_event
        self.start = start
        self.callbacks = callbacks
        self.length = run_length(self.recipe, len(setup.splits["train"]))
        self.finished_steps = start.step if start else 0

    def run(self) -> None:
        """Trains from the first step, or the checkpoint's, to the last.

        Raises:
            InputError: where the loss is no longer finite, or the run is too short for its recipe.
            OSError: where the data service lost images.
        """
        recipe, length = self.recipe, self.length
        accumulation = recipe.optimization.gradient_accumulation_steps
        if accumulation > length.steps:
            raise InputError(
                f"gradient_accumulation_steps={accumulation} needs as many steps for one update; "
                f"the run has {length.steps}."
            )
        self.setup.run.truncate_logs(self.finished_steps // length.steps_per_epoch)
        train, validation = self.setup.splits["train"], self.setup.splits["validation"]
        if recipe.fine_tuning.head_first and not self.start:
            balanced = recipe.data.balance != "none"
            fit_head(self.model, train, validation, recipe.optimization.batch_size, balanced)
        planned = phases(recipe, self.model.config, length.epochs)
        self._print_notes(planned)
        objective = self.setup.task.objective(recipe, self.model, train)
        for phase in planned:
            if phase.end * length.steps_per_epoch > self.finished_steps:
                self._build_trainer(phase, objective)
                self._fit_phase(phase, objective)

    def _print_notes(self, planned):
        epochs = self.length.epochs
        if len(planned) <= len(self.recipe.augmentation.progressive_resizing):
            print(
                f"Note: {epochs} epoch(s) are too few for all sizes of progressive_resizing.",
                flush=True,
            )
        if self.recipe.optimization.warmup_epochs > epochs / 2:
            print(
                f"Note: the warm-up is shortened to half of the run, {epochs / 2:g} epochs.",
                flush=True,
            )

    def _build_trainer(self, phase: Phase, objective: Objective) -> None:
        """Builds the model and the trainer of a phase, which continue those of the last one."""
        recipe, size = self.recipe, phase.image_size
        if self._trainer:
            self.model, self._trainer = trainer_at_size(
                self.model, self._trainer, size, recipe, objective, self.length
            )
        else:
            self.model = model_at_size(self.model, size, recipe)
            restrict(self.model, recipe.fine_tuning)
            self._trainer = build_trainer(self.model, recipe, objective, self.length)

    def _fit_phase(self, phase: Phase, objective: Objective) -> None:
        """Fits the trainer for the epochs of a phase."""
        setup, per_epoch = self.setup, self.length.steps_per_epoch
        validation = self._validation_batches()
        further = self._further_callbacks()
        # Each image size keeps its own best model; the last phase has the final size.
        weights, dataset = describe_weights(self.recipe), self.recipe.data.dataset
        best = BestModel(self.model, setup.run.model, weights, dataset)
        if self.start:
            self._restore(self.start, best, validation)
        writer = CheckpointWriter(self._checkpoint_schedule(), self.model, best, self.start)
        self.start = None
        stop = StopOnNaN(per_epoch)
        loss = np.nan
        # Finish a partial epoch in its own fit call. A data service shuffles across everything it
        # is given, so with one each epoch has its own call.
        begin = max(self.finished_steps, phase.begin * per_epoch)
        separate = bool(setup.data_service)
        for first, last in epoch_spans(begin, phase.end * per_epoch, per_epoch, separate):
            history = self._trainer.fit(
                setup.devices.training(functools.partial(self._batches, objective, first, last)),
                initial_epoch=first // per_epoch,
                epochs=last // per_epoch,
                steps_per_epoch=min(per_epoch, last - first),
                validation_data=validation,
                validation_freq=self._validated_epochs(phase),
                callbacks=[*further, best, stop, writer, *self._logs()],
                shuffle=False,  # the batches are shuffled
                verbose=self._verbosity(),
            )
            if stop.where:
                break
            _check_complete(writer.step, last)
            loss = history.history["loss"][-1]
        if stop.where or not (best.epoch and np.isfinite(loss)):
            where = stop.where or f"the validation of epoch {phase.end}"
            raise _not_finite(where, setup.run.model, self.recipe.optimization.learning_rate)

    def _batches(self, objective, first, last, share):
        """The training batches of some steps, as these devices share them."""
        return training_batches(
            self.setup.splits["train"],
            self.recipe,
            self.model.preprocessing,
            objective.targets,
            share,
            first=first,
            last=last,
            service=self.setup.data_service,
        )

    def _validation_batches(self) -> tf.data.Dataset:
        examples = self.setup.splits["validation"]
        cache_mib = self.recipe.data.cache_mib
        batches = self.setup.task.validation_batches(examples, self.model, self.recipe, cache_mib)
        return self.setup.devices.validation(batches, len(examples))

    def _validated_epochs(self, phase: Phase) -> list[int]:
        """Epochs after which to validate, counted from 1; the last of a phase is one of them."""
        every, epochs = self.recipe.optimization.validate_every, self.length.epochs
        return sorted({*range(every, epochs, every), epochs, phase.end})

    def _checkpoint_schedule(self) -> CheckpointSchedule:
        return CheckpointSchedule(
            folder=self.setup.run.checkpoints,
            steps_per_epoch=self.length.steps_per_epoch,
            seconds=self.recipe.execution.checkpoint_every,
            stop_event=self.stop_event,
            within_epochs=not (self.setup.devices.workers or self.setup.data_service),
            images=self.images,
        )

    def _further_callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks that run before the best model is saved: averages, the caller's, the task's."""
        setup = self.setup
        averages = [EvaluateEMA()] if self.recipe.optimization.ema_momentum else []
        own = setup.task.callbacks(self.recipe, self.model, setup.splits["validation"], setup.run)
        return [*averages, *self.callbacks, *own]

    def _logs(self) -> list[keras.callbacks.Callback]:
        run, batch_size = self.setup.run, self.recipe.optimization.batch_size
        return [
            keras.callbacks.CSVLogger(run.history, append=True),
            keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
            ThroughputLogger(run.throughput, batch_size),
        ]

    def _verbosity(self) -> int:
        if not self.setup.devices.chief:
            return 0
        return 1 if sys.stdout.isatty() else 2

    def _restore(self, start: Checkpoint, best: BestModel, validation: tf.data.Dataset) -> None:
        """Sets the trainer and the best model so far to the state of a checkpoint."""
        trainer = self._trainer
        trainer.optimizer.build(trainer.trainable_variables)
        trainer.evaluate(validation.take(1), verbose=0)  # creates the metrics
        start.restore("model", self.model.variables)
        start.restore("optimizer", trainer.optimizer.variables)
        best.best, best.epoch = start.best["best"], int(start.best["epoch"])
        print(f"Resuming at step {self.finished_steps} of {self.length.steps}.", flush=True)


def describe_weights(recipe: Recipe) -> str:
    """What the weights of a run's model are, in words."""
    momentum = recipe.optimization.ema_momentum
    weights = f"moving average (momentum {momentum}) of the weights" if momentum else "weights"
    return f"{weights} of {recipe.model.start} trained on {recipe.data.dataset}"


def _check_complete(step: int, last: int) -> None:
    if step < last:
        raise OSError(
            f"the images ended at step {step} of {last}: the data service lost a worker and the "
            f"images that the worker held"
        )


def _not_finite(where: str, path: pathlib.Path, learning_rate: float) -> InputError:
    good = f"the last good model is {path}" if path.exists() else "no model yet"
    return InputError(
        f"the loss was no longer finite at {where}; {good}. Try a lower learning_rate than "
        f"{learning_rate}, a longer warm-up, or global_clipnorm=1."
    )
