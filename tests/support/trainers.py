"""Batches and trainers of a recipe for classes, as a run makes them."""

from typing import cast

from training.data.pipeline import Targets, training_batches
from training.data.sampling import ALONE
from training.model.trainer import Objective, RunLength, build_trainer
from training.tasks.classification import class_losses, class_targets


def class_batches(examples, recipe, preprocessing, last, first=0, share=ALONE, service=""):
    """The training batches of the steps first..last."""
    targets = class_targets(recipe, examples)
    return training_batches(
        examples, recipe, preprocessing, targets, share, first=first, last=last, service=service
    )


def class_objective(recipe):
    """An Objective without targets: the tests make batches themselves."""
    return Objective(targets=cast(Targets, None), compile_options=lambda: class_losses(recipe))


def class_trainer(model, recipe, steps_per_epoch, epochs):
    """The compiled model that `fit` is called on."""
    return build_trainer(model, recipe, class_objective(recipe), RunLength(epochs, steps_per_epoch))
