"""Every recipe builds its model and trains it, and documents its command and result."""

from typing import Any

import numpy as np
import pytest
from support.checkpoints import FIXTURES

from training.fit import fit
from training.model.trainer import phases
from training.recipe import FOLDER, load_recipe, recipe_names
from vit_keras import build_vit, load_model
from vit_keras.variants import resolve_config

WEIGHTS = {  # recipe: a tiny model in the format of its weights
    "mae_finetune_b16": "hf_mae",
    **dict.fromkeys(("finetune", "linear_probe", "google_cifar10"), "timm_plain/model.safetensors"),
}
TEACHERS = ("deit_distill", "deit_s16_distilled")
TEACHER: dict[str, Any] = {
    "width": 16,
    "depth": 1,
    "heads": 2,
    "mlp_width": 16,
    "class_names": ("blue", "red"),
}


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_docstring_has_its_command_and_result(name):
    text = (FOLDER / f"{name}.py").read_text()

    assert f"python -m training fit {name}" in text
    assert "easured" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_recipe_builds_and_trains_its_model(name, photographs, tmp_path):
    recipe = load_recipe(name)
    if name in WEIGHTS:
        changes = {"weights": str(FIXTURES / WEIGHTS[name]), "image_size": 0}
        changes |= {"steps": 1, "gradient_accumulation_steps": 1}
    else:
        options = {
            "image_size": recipe.model.image_size,
            "channels": recipe.model.channels,
            **recipe.model.config,
        }
        config = resolve_config(recipe.model.variant, num_classes=3, **options)
        # The model has one block here, and trains one epoch at each image size.
        epochs = len(phases(recipe, config, 10))
        changes = {"config": {**recipe.model.config, "depth": 1}, "epochs": epochs}
    if recipe.task == "mae":
        changes["decoder"] = {**recipe.masking.decoder, "depth": 1}
    if name in TEACHERS:
        teacher = build_vit("vit_b16", num_classes=2, image_size=16, patch_size=8, **TEACHER)
        teacher.save(tmp_path / "teacher.keras")
        changes["teacher"] = str(tmp_path / "teacher.keras")
    changes |= {
        "dataset": str(photographs),
        "validation_split": "",
        "batch_size": 8,
        "jit_compile": False,
    }

    fit(recipe.replace(**changes), tmp_path / "run")

    model = load_model(tmp_path / "run" / "model.keras")
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    if name not in WEIGHTS:
        assert model.config.image_size == config.image_size
