"""Distillation: losses by hand, teachers of every kind, students in fit."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from support.tiny import tiny_model

from vit_keras import Distiller, InputError, Preprocessing, Teacher
from vit_keras.tasks.distillation import hard_loss, soft_loss

RANDOM = np.random.default_rng(0)
LOGITS, TEACHER_LOGITS = RANDOM.normal(0, 3, (2, 6, 5)).astype("float32")


def test_hard_loss_is_cross_entropy_with_the_teachers_class():
    expected = -log_softmax(LOGITS, axis=1)[np.arange(6), TEACHER_LOGITS.argmax(axis=1)]

    np.testing.assert_allclose(hard_loss(LOGITS, TEACHER_LOGITS), expected, rtol=1e-5)


def test_soft_loss_is_the_divergence_of_softened_probabilities():
    teacher = softmax(TEACHER_LOGITS / 3, axis=1)
    expected = 9 * (teacher * (np.log(teacher) - log_softmax(LOGITS / 3, axis=1))).sum(axis=1)

    np.testing.assert_allclose(soft_loss(LOGITS, TEACHER_LOGITS, 3.0), expected, rtol=1e-4)
    np.testing.assert_allclose(soft_loss(TEACHER_LOGITS, TEACHER_LOGITS, 3.0), 0, atol=1e-5)


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
def test_training_loss_is_that_of_the_paper(kind, cached):
    student, teacher = tiny_model(distilled=True, seed=1), tiny_model(seed=2)
    images, labels = images_for(student), np.eye(5, dtype="float32")[[0, 1, 2, 3, 4, 0]]
    weights = np.array([1, 2, 1, 1, 0.5, 1], "float32")
    teacher_logits = np.asarray(teacher(images))
    targets = np.hstack([labels, softmax(teacher_logits, axis=1)]) if cached else labels
    distiller = Distiller(student, None if cached else Teacher(teacher, student), kind, 0.3, 2.0)
    crossentropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.0), crossentropy, metrics=["accuracy"])
    heads = [student.get_layer(name).output for name in ("head", "head_dist")]
    logits, distilled = map(np.asarray, keras.Model(student.input, heads)(images))

    metrics = distiller.train_on_batch(images, targets, weights, return_dict=True)

    label_loss = -(labels * log_softmax(logits, axis=1)).sum(axis=1)
    if kind == "hard":
        teacher_loss = -log_softmax(distilled, axis=1)[np.arange(6), teacher_logits.argmax(axis=1)]
    else:
        soft = softmax(teacher_logits / 2, axis=1)
        teacher_loss = 4 * (soft * (np.log(soft) - log_softmax(distilled / 2, axis=1))).sum(axis=1)
    expected = (weights * (0.7 * label_loss + 0.3 * teacher_loss)).mean()
    assert metrics["loss"] == pytest.approx(expected, rel=1e-4)
    both = np.asarray(student(images)).argmax(axis=1)
    assert metrics["accuracy"] == pytest.approx((both == labels.argmax(axis=1)).mean())
    evaluated = distiller.evaluate(images, labels, verbose=0, return_dict=True)
    mean = -(labels * log_softmax((logits + distilled) / 2, axis=1)).sum(axis=1).mean()
    assert evaluated["loss"] == pytest.approx(mean, rel=1e-4)


def test_the_teacher_does_not_learn():
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


def test_sparse_and_one_hot_labels_give_the_same_loss():
    student, teacher = tiny_model(seed=1), tiny_model(seed=2)
    images, labels = images_for(student, 8), np.array([0, 1, 2, 3, 4, 0, 1, 2])
    weights = np.linspace(0.5, 2, 8)
    results = []
    for loss, targets, importance in (
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), labels, weights[:, None]),
        (keras.losses.CategoricalCrossentropy(from_logits=True), np.eye(5)[labels], weights),
    ):
        distiller = Distiller(student, teacher)
        distiller.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
        step = distiller.train_on_batch(images, targets, importance)
        results.append([*step, *distiller.evaluate(images, targets, verbose=0)])

    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


def test_half_precision_probabilities_become_finite_logits():
    student = tiny_model(seed=1)
    inputs = keras.Input((16, 24, 3))
    flat = keras.layers.Flatten()(inputs)
    teacher = keras.Model(inputs, keras.layers.Dense(5, "softmax", dtype="float16")(flat))

    logits = Teacher(teacher, student, probabilities=True)(1e3 * images_for(student))

    assert np.isfinite(logits).all()


def test_a_student_without_distillation_token_uses_one_head_for_both():
    student, teacher = tiny_model(seed=1), tiny_model(seed=2)
    distiller = Distiller(student, Teacher(teacher, student))

    logits, distilled = np.asarray(distiller(images_for(student)))

    np.testing.assert_array_equal(logits, distilled)


def test_teachers_get_images_in_their_own_preprocessing():
    student = tiny_model(
        preprocessing=Preprocessing((16, 24), mean=(0.4, 0.5, 0.6), std=(0.2,) * 3)
    )
    preprocessing = Preprocessing((32, 40), crop=0.5, mean=(0.1, 0.2, 0.3), std=(0.3, 0.4, 0.5))
    teacher = tiny_model(image_size=(32, 40), preprocessing=preprocessing)
    pixels = RANDOM.integers(0, 256, (2, 16, 24, 3)).astype("uint8")

    logits = Teacher(teacher, student)(student.preprocessing(pixels))

    stretched = keras.ops.image.resize(pixels.astype("float32"), (32, 40), antialias=True)
    np.testing.assert_allclose(logits, teacher(preprocessing.normalise(stretched)), atol=1e-4)


def test_rgb_teachers_get_grey_images_as_rgb():
    student, teacher = tiny_model(channels=1), tiny_model()
    images = images_for(student)

    logits = Teacher(teacher, student)(images)

    np.testing.assert_allclose(logits, teacher(np.repeat(images, 3, axis=-1)), atol=1e-5)
    with pytest.raises(InputError, match="the teacher's images have 1 channels, the student's 3"):
        Teacher(student, teacher)


def test_classes_are_matched_by_name():
    student = tiny_model(num_classes=2, class_names=("b", "a"))
    teacher = tiny_model(num_classes=3, class_names=("a", "c", "b"))
    images = images_for(student)

    logits = Teacher(teacher, student)(images)

    np.testing.assert_allclose(logits, np.asarray(teacher(images))[:, [2, 0]], atol=1e-5)
    with pytest.raises(InputError, match="the teacher knows no class 'c'"):
        Teacher(student, teacher)
    with pytest.raises(InputError, match="the teacher has 5 classes, the student 2"):
        Distiller(student, Teacher(tiny_model(), student))
    with pytest.raises(InputError, match="distillation must be one of hard, soft"):
        Distiller(student, Teacher(teacher, student), "strict")
