"""A task that is defined in this file alone runs through fit, evaluate, report and export.

It needs one row in TASKS and one in ENDPOINTS, and no other change.
"""

import dataclasses
import json

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from export.endpoints import ENDPOINTS
from export.endpoints.endpoints import Endpoints
from export.export import export_model
from training.__main__ import main
from training.fit import fit
from training.model.trainer import Objective
from training.reports.sections import Report
from training.tasks import TASKS
from training.tasks.task import Evaluation, Task
from vit_keras import ViT, build_vit, load_model


@keras.saving.register_keras_serializable(package="toy")
class BrightnessModel(ViT):
    """images -> (batch, 1), the mean brightness of each image."""

    task = "brightness"


def brightness(images):
    return tf.reduce_mean(images, axis=(1, 2, 3))[:, tf.newaxis]


class BrightnessTargets:
    """The mean of an image's normalised pixels."""

    def rows(self, indices):
        return tf.zeros((tf.size(indices), 1))

    def finish(self, images, rows, seed):
        return images, brightness(images)


class Brightness(Task):
    """Learns how bright images are; they need no labels."""

    labelled = False

    def build_model(self, recipe, plan, class_names):
        config = plan.config.replace(num_classes=0)
        vit = build_vit(config, preprocessing=plan.preprocessing)
        output = keras.layers.Dense(1, name="brightness")(vit.output)
        return BrightnessModel(
            vit.input,
            output,
            name="toy",
            config=config.to_fields(),
            preprocessing=dataclasses.asdict(plan.preprocessing),
        )

    def objective(self, recipe, model, train):
        return Objective(BrightnessTargets(), compile_options=lambda: {"loss": "mse"})

    def validation_batches(self, examples, model, recipe, cache_mib=0):
        batches = super().validation_batches(examples, model, recipe, cache_mib)
        return batches.map(lambda images, labels: (images, brightness(images)))

    def evaluate(self, model, examples, recipe, flip=False):
        errors = [
            np.abs(ops.convert_to_numpy(model(images)) - targets)
            for images, targets in self.validation_batches(examples, model, recipe)
        ]
        return Evaluation({"images": len(examples), "error": float(np.concatenate(errors).mean())})

    def format(self, evaluation):
        return f"Mean error {evaluation['error']:.3f} on {evaluation['images']} images"

    def report(self, run, recipe, model, examples, evaluation, predictions):
        return Report("Brightness", [("**error**", f"{evaluation['error']:.3f}")])

    def summary(self, recipe, model):
        return "brightness"


def test_a_task_of_one_file_runs_through_fit_evaluate_and_export(
    recipe, photographs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(TASKS, "brightness", Brightness())
    monkeypatch.setitem(ENDPOINTS, "brightness", Endpoints("brightness", "mean of the pixels"))
    run, model = tmp_path / "run", str(tmp_path / "run" / "model.keras")

    fit(recipe.replace(task="brightness", learning_rate=1e-2), run)

    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["split"] == "validation"
    assert evaluation["error"] < 0.5  # of values in [-1, 1]
    assert "**error**" in (run / "report.md").read_text()
    assert isinstance(load_model(model), BrightnessModel)

    main(["evaluate", model, "--data", str(photographs)])

    assert "Mean error 0." in capsys.readouterr().out

    (row,) = export_model(model, ["tflite"], tmp_path / "exported")

    assert row["task"] == "brightness"
    assert row["images"] == 6  # the validation images of the run
    assert row["max_difference"] <= row["tolerance"]
    assert (tmp_path / "exported" / "model.tflite").stat().st_size > 10_000
