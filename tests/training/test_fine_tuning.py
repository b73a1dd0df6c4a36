"""Fine-tuning trains only the layers that `trainable` selects, and saves a plain model."""

import numpy as np
import pytest
from support.tiny import tiny_model
from support.trainers import class_trainer

from training.model.fine_tuning import restrict
from training.model.options import FineTuningOptions
from training.recipe import Recipe
from vit_keras import InputError, load_model

OPTIONS = {"num_classes": 3, "depth": 3}


def train(model, tmp_path, **options):
    """Trains for two steps -> names of changed layers, paths of changed weights, loaded model."""
    before = {weight.path: np.asarray(weight) for weight in model.weights}
    recipe = Recipe().replace(learning_rate=1e-2, warmup_epochs=0, jit_compile=False, **options)
    restrict(model, recipe.fine_tuning)
    trainer = class_trainer(model, recipe, 2, 1)
    random = np.random.default_rng(0)
    images = random.normal(size=(8, *model.input_shape[1:])).astype("float32")
    trainer.fit(images, np.eye(3)[random.integers(0, 3, 8)], batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), model(images), atol=2e-6)
    after = {weight.path: np.asarray(weight) for weight in loaded.weights}
    assert after.keys() == before.keys()
    changed = {path for path in before if (after[path] != before[path]).any()}
    return {path.split("/")[0] for path in changed}, changed, loaded


@pytest.mark.slow
def test_last_blocks_are_trained_with_norm_and_head(tmp_path):
    layers, _, _ = train(
        tiny_model(**OPTIONS), tmp_path, trainable="last_blocks", trainable_blocks=2
    )

    assert layers == {"block_1", "block_2", "norm", "head"}


@pytest.mark.slow
def test_lora_changes_matrices_of_blocks_by_its_rank_and_the_head(tmp_path):
    model = tiny_model(**OPTIONS)
    before = model.get_layer("block_1").mlp.expand.get_weights()[0]

    layers, changed, loaded = train(model, tmp_path, trainable="lora", lora_rank=2)

    assert layers == {"block_0", "block_1", "block_2", "head"}
    assert all(path.endswith("/kernel") or path.startswith("head") for path in changed)
    expand = loaded.get_layer("block_1").mlp.expand
    assert not expand.lora_enabled
    assert np.linalg.matrix_rank(expand.get_weights()[0] - before, tol=1e-4) == 2


def test_more_trainable_blocks_than_the_model_has_is_an_error():
    with pytest.raises(InputError, match="the model has 3 blocks. Got trainable_blocks=4"):
        options = FineTuningOptions(trainable="last_blocks", trainable_blocks=4)
        restrict(tiny_model(**OPTIONS), options)
