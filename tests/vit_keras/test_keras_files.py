"""Files of version 0.1.0, before layers moved to other modules, still load and compute the same."""

import keras
import numpy as np
import pytest
from support.checkpoints import FIXTURES

import vit_keras

FOLDER = FIXTURES / "keras_files"
TOLERANCE = 5e-6  # of float32; some layers add in another order now


def expected(name):
    with np.load(FOLDER / "outputs.npz") as outputs:
        return outputs[name]


@pytest.mark.parametrize("name", ["plain", "distilled", "small_data"])
def test_classifiers_of_version_0_1_0_load(name):
    model = vit_keras.load_model(FOLDER / f"{name}.keras")

    np.testing.assert_allclose(model(expected("images")), expected(name), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "hidden"), [("mae", "noise"), ("mim", "masked")])
def test_masked_models_of_version_0_1_0_load(name, hidden):
    model = vit_keras.from_weights(FOLDER / f"{name}.keras")

    answer = model.predict_on_batch({"images": expected("images"), hidden: expected(hidden)})

    output = answer["prediction"] if name == "mae" else keras.tree.flatten(answer)[-1]
    np.testing.assert_allclose(output, expected(name), rtol=0, atol=TOLERANCE)


def test_class_names_and_config_are_in_the_file():
    model = vit_keras.load_model(FOLDER / "plain.keras")

    assert model.class_names == ("a", "b", "c")
    assert model.config.registers == 2
    assert model.config.image_size == (8, 12)
