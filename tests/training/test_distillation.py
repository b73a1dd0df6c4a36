"""Distillation: all kinds of teachers, cached probabilities, and the saved student."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import softmax
from support.tiny import tiny_model

import vit_keras
from export.export import export_model
from training.data.pipeline import training_batches
from training.data.splits import load_splits
from training.fit import fit
from training.model.trainer import RunLength, build_trainer
from training.tasks import TASKS
from training.tasks.distillation import DistillationOptions
from training.tasks.teacher import load_teacher
from vit_keras import InputError

RANDOM = np.random.default_rng(0)


def softmax_model(run_folder):
    vit = vit_keras.load_model(run_folder / "model.keras")
    return keras.Model(vit.input, keras.layers.Softmax()(vit.output))


def exported(run_folder, folder):
    export_model(run_folder / "model.keras", ["savedmodel"], folder)
    return folder / "saved_model" / "1"


def any_keras_file(run_folder, folder):
    vit = vit_keras.load_model(run_folder / "model.keras")
    keras.Model(vit.input, vit.output).save(folder / "plain.keras")
    return folder / "plain.keras"


def with_softmax(run_folder, folder):
    softmax_model(run_folder).save(folder / "softmax.keras")
    return folder / "softmax.keras"


def any_saved_model(run_folder, folder):
    softmax_model(run_folder).export(folder / "any", verbose=False)
    return folder / "any"


@pytest.mark.parametrize(
    ("source", "names_classes"),
    [
        pytest.param(lambda run, folder: run, True, id="run folder"),
        pytest.param(exported, True, id="exported", marks=pytest.mark.slow),
        pytest.param(any_keras_file, False, id="any .keras file"),
        pytest.param(with_softmax, False, id="probabilities"),
        pytest.param(any_saved_model, False, id="any SavedModel", marks=pytest.mark.slow),
    ],
)
def test_teachers_of_all_kinds_give_the_same_probabilities(
    source, names_classes, run_folder, tmp_path
):
    vit = vit_keras.load_model(run_folder / "model.keras")
    preprocessing = dataclasses.replace(vit.preprocessing, mean=(0.4,) * 3)
    student = tiny_model(num_classes=2, class_names=("red", "blue"), preprocessing=preprocessing)
    teacher = str(source(run_folder, tmp_path))
    statistics: dict[str, Any] = {} if names_classes else {"teacher_mean": (0.5,)}
    options = DistillationOptions(teacher=teacher, **statistics)
    pixels = RANDOM.integers(0, 256, (4, 16, 24, 3)).astype("uint8")

    probabilities = softmax(load_teacher(options, student)(preprocessing(pixels)), axis=1)

    expected = softmax(vit(vit.preprocessing(pixels)), axis=1)
    if names_classes:  # probabilities are in the order of the student's classes
        expected = expected[:, ::-1]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_distillation_without_a_teacher_or_a_teacher_without_distillation_is_an_error(
    recipe, tmp_path
):
    with pytest.raises(InputError, match="does not learn from a teacher; add --set task=dist"):
        recipe.replace(teacher="x.keras")
    for teacher, message in (
        ("", "needs a teacher; name one with --teacher MODEL"),
        ("no/such", "the teacher no/such does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            fit(recipe.replace(task="distillation", teacher=teacher), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_file_that_cannot_be_a_teacher_is_an_error(tmp_path):
    student = tiny_model(num_classes=2)
    (tmp_path / "picture.keras").write_bytes(b"\x89PNG")
    headless = tiny_model(num_classes=0)
    headless.save(tmp_path / "headless.keras")
    inputs = keras.Input((16, 24, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = {
        "two": [pooled, pooled],
        "map": keras.layers.Dense(2)(inputs),
        "wide": keras.layers.Dense(4)(pooled),
    }
    for name, output in outputs.items():
        keras.Model(inputs, output).save(tmp_path / f"{name}.keras")
    for folder in ("broken", "versions/1"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "saved_model.pb").write_bytes(b"no")
    for source, message in (
        ("nothing.keras", "nothing.keras does not exist"),
        ("picture.keras", "picture.keras is not a complete .keras file"),
        ("headless.keras", "has no classes"),
        ("two.keras", "must be one row of logits an image"),
        ("map.keras", "must be one row of logits an image"),
        ("wide.keras", "has 4 classes, the student 2"),
        ("versions", "has versions; name one, such as .*versions/1"),
        ("broken", "cannot be loaded as a SavedModel"),
    ):
        with pytest.raises(InputError, match=message):
            load_teacher(DistillationOptions(teacher=str(tmp_path / source)), student)


@pytest.mark.slow
def test_cached_probabilities_are_mixed_like_labels(recipe, run_folder):
    cached = recipe.replace(
        task="distillation",
        teacher=str(run_folder),
        teacher_cache=True,
        label_smoothing=0.2,
        augment=(),
    )
    train = load_splits(cached.data, 3, 0)["train"]
    student = tiny_model(num_classes=2, class_names=train.class_names)

    def average(images, labels, seed):
        return (images + images[::-1]) / 2, (labels + labels[::-1]) / 2

    def first_batch(recipe):
        objective = TASKS["distillation"].objective(recipe, student, train)
        batches = training_batches(train, recipe, student.preprocessing, objective.targets, last=1)
        return objective, next(iter(batches))

    _, (images, rows) = first_batch(cached)
    mixed = cached.replace(augment=(average,))
    objective, (_, mixed_rows) = first_batch(mixed)
    rows, mixed_rows = rows.numpy(), mixed_rows.numpy()

    assert rows.shape == (4, 4)
    np.testing.assert_allclose(np.sort(rows[:, :2]), [[0.1, 0.9]] * 4, atol=1e-6)
    logits = load_teacher(cached.distillation, student)(images)
    np.testing.assert_allclose(rows[:, 2:], softmax(logits, axis=1), atol=1e-5)
    assert np.ptp(rows[:, 2]) > 0.1  # differs between images
    np.testing.assert_allclose(mixed_rows, (rows + rows[::-1]) / 2, atol=1e-6)
    trainer = build_trainer(student, mixed, objective, RunLength(1, 1))
    assert np.isfinite(trainer.train_on_batch(np.zeros((4, 16, 24, 3)), mixed_rows)[0])


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"teacher_cache": True, "distillation_loss": "soft"}])
def test_distillation_run_saves_the_student_alone(recipe, run_folder, tmp_path, changes):
    distilled = recipe.replace(
        task="distillation",
        teacher=str(run_folder),
        config={**recipe.model.config, "distilled": True},
        mixed_precision="mixed_float16",
        **changes,
    )

    evaluation = fit(distilled, tmp_path / "run")

    student = vit_keras.load_model(tmp_path / "run" / "model.keras")
    assert evaluation
    assert evaluation["accuracy"] > 0.6  # red against blue
    assert student.config.distilled
    assert not getattr(student, "optimizer", None)
