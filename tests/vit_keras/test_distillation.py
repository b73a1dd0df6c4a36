"""Distillation: losses by hand, teachers of every kind, students in fit."""

import dataclasses

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from support.tiny import tiny_model

import vit_keras
from export.export import export
from training.data.pipeline import training_batches
from training.data.splits import load_splits
from training.fit import fit
from training.model.trainer import build_trainer
from training.tasks.distillation import answers, load_teacher
from vit_keras import Distiller, InputError, Preprocessing, Teacher
from vit_keras.tasks.distillation import hard_loss, soft_loss

RANDOM = np.random.default_rng(0)
LOGITS, TAUGHT = RANDOM.normal(0, 3, (2, 6, 5)).astype("float32")


def test_hard_loss_is_cross_entropy_with_the_teachers_decision():
    expected = -log_softmax(LOGITS, axis=1)[np.arange(6), TAUGHT.argmax(axis=1)]

    np.testing.assert_allclose(hard_loss(LOGITS, TAUGHT), expected, rtol=1e-5)


def test_soft_loss_is_the_divergence_of_softened_probabilities():
    teacher = softmax(TAUGHT / 3, axis=1)
    expected = 9 * (teacher * (np.log(teacher) - log_softmax(LOGITS / 3, axis=1))).sum(axis=1)

    np.testing.assert_allclose(soft_loss(LOGITS, TAUGHT, 3.0), expected, rtol=1e-4)
    np.testing.assert_allclose(soft_loss(TAUGHT, TAUGHT, 3.0), 0, atol=1e-5)


def images_for(model, count=6):
    return RANDOM.normal(size=(count, *model.input_shape[1:])).astype("float32")


@pytest.mark.parametrize(
    ("kind", "cached"),
    [
        ("hard", False),
        ("soft", True),
        pytest.param("hard", True, marks=pytest.mark.slow),
        pytest.param("soft", False, marks=pytest.mark.slow),
    ],
)
def test_a_training_step_has_the_loss_of_the_paper(kind, cached):
    student, teacher = tiny_model(distilled=True, seed=1), tiny_model(seed=2)
    images, labels = images_for(student), np.eye(5, dtype="float32")[[0, 1, 2, 3, 4, 0]]
    weights = np.array([1, 2, 1, 1, 0.5, 1], "float32")
    taught = np.asarray(teacher(images))
    targets = np.hstack([labels, softmax(taught, axis=1)]) if cached else labels
    distiller = Distiller(student, None if cached else Teacher(teacher, student), kind, 0.3, 2.0)
    crossentropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.0), crossentropy, metrics=["accuracy"])
    heads = [student.get_layer(name).output for name in ("head", "head_dist")]
    logits, distilled = map(np.asarray, keras.Model(student.input, heads)(images))

    found = distiller.train_on_batch(images, targets, weights, return_dict=True)

    own = -(labels * log_softmax(logits, axis=1)).sum(axis=1)
    if kind == "hard":
        theirs = -log_softmax(distilled, axis=1)[np.arange(6), taught.argmax(axis=1)]
    else:
        soft = softmax(taught / 2, axis=1)
        theirs = 4 * (soft * (np.log(soft) - log_softmax(distilled / 2, axis=1))).sum(axis=1)
    expected = (weights * (0.7 * own + 0.3 * theirs)).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    both = np.asarray(student(images)).argmax(axis=1)
    assert found["accuracy"] == pytest.approx((both == labels.argmax(axis=1)).mean())
    evaluated = distiller.evaluate(images, labels, verbose=0, return_dict=True)
    mean = -(labels * log_softmax((logits + distilled) / 2, axis=1)).sum(axis=1).mean()
    assert evaluated["loss"] == pytest.approx(mean, rel=1e-4)


def test_models_become_teachers_that_do_not_learn():
    student = tiny_model(distilled=True, seed=1)
    inputs = keras.Input((16, 24, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(inputs))
    teacher = keras.Model(inputs, keras.layers.Dense(5)(pooled))
    distiller = Distiller(student, teacher, "soft")
    distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [np.array(weight) for weight in teacher.weights]

    distiller.fit(images_for(student), np.array([0, 1, 2, 3, 4, 0]), verbose=0)

    for weight, value in zip(teacher.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    trained = {weight.path for weight in distiller.trainable_variables}
    assert trained == {weight.path for weight in student.trainable_variables}


def test_class_numbers_and_columns_of_weights_mean_the_same():
    student, teacher = tiny_model(seed=1), tiny_model(seed=2)
    images, labels = images_for(student, 8), np.array([0, 1, 2, 3, 4, 0, 1, 2])
    weights = np.linspace(0.5, 2, 8)
    found = []
    for loss, targets, importance in (
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), labels, weights[:, None]),
        (keras.losses.CategoricalCrossentropy(from_logits=True), np.eye(5)[labels], weights),
    ):
        distiller = Distiller(student, teacher)
        distiller.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
        step = distiller.train_on_batch(images, targets, importance)
        found.append([*step, *distiller.evaluate(images, targets, verbose=0)])

    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_half_precision_probabilities_make_finite_logits():
    student = tiny_model(seed=1)
    inputs = keras.Input((16, 24, 3))
    flat = keras.layers.Flatten()(inputs)
    teacher = keras.Model(inputs, keras.layers.Dense(5, "softmax", dtype="float16")(flat))

    found = Teacher(teacher, student, probabilities=True)(1e3 * images_for(student))

    assert np.isfinite(found).all()


def test_a_student_without_the_token_learns_both_with_one_head():
    student, teacher = tiny_model(seed=1), tiny_model(seed=2)
    distiller = Distiller(student, Teacher(teacher, student))

    logits, distilled = np.asarray(distiller(images_for(student)))

    np.testing.assert_array_equal(logits, distilled)


def test_teachers_see_images_as_they_were_trained():
    student = tiny_model(
        preprocessing=Preprocessing((16, 24), mean=(0.4, 0.5, 0.6), std=(0.2,) * 3)
    )
    seen = Preprocessing((32, 40), crop=0.5, mean=(0.1, 0.2, 0.3), std=(0.3, 0.4, 0.5))
    teacher = tiny_model(image_size=(32, 40), preprocessing=seen)
    pixels = RANDOM.integers(0, 256, (2, 16, 24, 3)).astype("uint8")

    found = Teacher(teacher, student)(student.preprocessing(pixels))

    stretched = keras.ops.image.resize(pixels.astype("float32"), (32, 40), antialias=True)
    np.testing.assert_allclose(found, teacher(seen.normalise(stretched)), atol=1e-4)


def test_teachers_of_colour_see_grey_images_in_colour():
    student, teacher = tiny_model(channels=1), tiny_model()
    images = images_for(student)

    found = Teacher(teacher, student)(images)

    np.testing.assert_allclose(found, teacher(np.repeat(images, 3, axis=-1)), atol=1e-5)
    with pytest.raises(InputError, match="sees 1 channels, and the student's images have 3"):
        Teacher(student, teacher)


def test_classes_are_matched_by_name():
    student = tiny_model(num_classes=2, class_names=("b", "a"))
    teacher = tiny_model(num_classes=3, class_names=("a", "c", "b"))
    images = images_for(student)

    found = Teacher(teacher, student)(images)

    np.testing.assert_allclose(found, np.asarray(teacher(images))[:, [2, 0]], atol=1e-5)
    with pytest.raises(InputError, match="the teacher knows no class 'c'"):
        Teacher(student, teacher)
    with pytest.raises(InputError, match="the teacher tells 5 classes apart, the student 2"):
        Distiller(student, Teacher(tiny_model(), student))
    with pytest.raises(InputError, match="distillation must be one of hard, soft"):
        Distiller(student, Teacher(teacher, student), "strict")


def softmax_model(run_folder):
    vit = vit_keras.load_model(run_folder / "model.keras")
    return keras.Model(vit.input, keras.layers.Softmax()(vit.output))


def exported(run_folder, folder):
    export(run_folder / "model.keras", ["savedmodel"], folder)
    return folder / "saved_model" / "1"


def plain(run_folder, folder):
    vit = vit_keras.load_model(run_folder / "model.keras")
    keras.Model(vit.input, vit.output).save(folder / "plain.keras")
    return folder / "plain.keras"


def probabilities(run_folder, folder):
    softmax_model(run_folder).save(folder / "softmax.keras")
    return folder / "softmax.keras"


def foreign(run_folder, folder):
    softmax_model(run_folder).export(folder / "foreign", verbose=False)
    return folder / "foreign"


@pytest.mark.parametrize(
    ("source", "tells"),
    [
        pytest.param(lambda run, folder: run, True, id="run folder"),
        pytest.param(exported, True, id="exported", marks=pytest.mark.slow),
        pytest.param(plain, False, id="any .keras file"),
        pytest.param(probabilities, False, id="probabilities"),
        pytest.param(foreign, False, id="any SavedModel", marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_teacher_says_the_same(source, tells, run_folder, recipe, tmp_path):
    vit = vit_keras.load_model(run_folder / "model.keras")
    spec = dataclasses.replace(vit.preprocessing, mean=(0.4,) * 3)
    student = tiny_model(num_classes=2, class_names=("red", "blue"), preprocessing=spec)
    teacher = str(source(run_folder, tmp_path))
    stated = {} if tells else {"teacher_mean": (0.5,)}
    named = dataclasses.replace(recipe, teacher=teacher, **stated)
    pixels = RANDOM.integers(0, 256, (4, 16, 24, 3)).astype("uint8")

    found = softmax(load_teacher(named, student)(spec(pixels)), axis=1)

    expected = softmax(vit(vit.preprocessing(pixels)), axis=1)
    if tells:  # what its classes are called, so that they come in the student's order
        expected = expected[:, ::-1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_teachers_and_distillation_go_together(recipe, tmp_path):
    for changes, message in (
        ({"teacher": "x.keras"}, "takes --set distillation=hard or soft as well"),
        ({"distillation": "soft"}, "takes --teacher MODEL as well"),
        ({"distillation": "soft", "teacher": "no/such"}, "the teacher no/such does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            fit(dataclasses.replace(recipe, **changes), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_what_is_no_teacher_is_refused(recipe, tmp_path, run_folder):
    student = tiny_model(num_classes=2)
    (tmp_path / "picture.keras").write_bytes(b"\x89PNG")
    headless = tiny_model(num_classes=0)
    headless.save(tmp_path / "headless.keras")
    inputs = keras.Input((16, 24, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    answers = {
        "two": [pooled, pooled],
        "map": keras.layers.Dense(2)(inputs),
        "wide": keras.layers.Dense(4)(pooled),
    }
    for name, output in answers.items():
        keras.Model(inputs, output).save(tmp_path / f"{name}.keras")
    for folder in ("broken", "versions/1"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "saved_model.pb").write_bytes(b"no")
    for source, message in (
        ("nothing.keras", "nothing.keras does not exist"),
        ("picture.keras", "picture.keras is no whole .keras file"),
        ("headless.keras", "has no classes"),
        ("two.keras", "must give one row of logits for each image"),
        ("map.keras", "must give one row of logits for each image"),
        ("wide.keras", "tells 4 classes apart, the student 2"),
        ("versions", "has versions; name one, such as .*versions/1"),
        ("broken", "cannot be loaded as a SavedModel"),
    ):
        with pytest.raises(InputError, match=message):
            load_teacher(dataclasses.replace(recipe, teacher=str(tmp_path / source)), student)


@pytest.mark.slow
def test_cached_answers_are_mixed_as_labels_are(recipe, run_folder):
    named = dataclasses.replace(
        recipe, teacher=str(run_folder), distillation="hard", teacher_cache=True,
        label_smoothing=0.2, augment=(),
    )  # fmt: skip
    train = load_splits(named)["train"]
    student = tiny_model(num_classes=2, class_names=train.class_names)
    taught = answers(load_teacher(named, student), student, train)

    def halve(images, labels, seed):
        return (images + images[::-1]) / 2, (labels + labels[::-1]) / 2

    np.testing.assert_allclose(taught.sum(axis=1), 1, atol=1e-5)
    spec = student.preprocessing
    plain = next(iter(training_batches(train, named, spec, 1, taught=taught)))[1].numpy()
    mixed = dataclasses.replace(named, augment=(halve,))
    found = next(iter(training_batches(train, mixed, spec, 1, taught=taught)))[1].numpy()
    assert plain.shape == (4, 4)
    np.testing.assert_allclose(np.sort(plain[:, :2]), [[0.1, 0.9]] * 4, atol=1e-6)
    images = next(iter(training_batches(train, named, spec, 1, taught=taught)))[0]
    asked = load_teacher(named, student)(images)
    np.testing.assert_allclose(plain[:, 2:], softmax(asked, axis=1), atol=1e-5)
    assert np.ptp(plain[:, 2]) > 0.1  # not one answer for all
    np.testing.assert_allclose(found, (plain + plain[::-1]) / 2, atol=1e-6)
    trainer = build_trainer(student, mixed, 1, 1)
    assert np.isfinite(trainer.train_on_batch(np.zeros((4, 16, 24, 3)), found)[0])


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"teacher_cache": True, "distillation": "soft"}])
def test_a_run_with_a_teacher_saves_the_student(recipe, run_folder, tmp_path, changes):
    options = {"distillation": "hard", "mixed_precision": "mixed_float16", **changes}
    model = {**recipe.model, "distilled": True}
    distilled = dataclasses.replace(recipe, teacher=str(run_folder), model=model, **options)

    evaluation = fit(distilled, tmp_path / "run")

    student = vit_keras.load_model(tmp_path / "run" / "model.keras")
    assert evaluation["accuracy"] > 0.6  # red against blue
    assert student.config.distilled
    assert not getattr(student, "optimizer", None)
