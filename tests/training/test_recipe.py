"""Recipes load by name, and any field can be replaced by a value of its type."""

import json
import re

import pytest

from training.augment import batches as augment
from training.recipe import Recipe, load_recipe, read_recipe, recipe_names
from vit_keras import InputError
from vit_keras.variants import resolve_config


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_sound(name, tmp_path):
    recipe = load_recipe(name)

    assert isinstance(recipe, Recipe)
    if recipe.image_size:  # otherwise that of the weights
        resolve_config(
            recipe.variant, image_size=recipe.image_size, channels=recipe.channels, **recipe.model
        )
    written = tmp_path / "config.json"
    written.write_text(json.dumps({"recipe": recipe.as_dict()}))
    assert read_recipe(written).as_dict() == recipe.as_dict()


def test_what_is_read_again_is_what_was_written(tmp_path):
    overrides = ["image_size=32,64", "std=0.5", "smaller_first=0.5,0.4", "model.stem_blocks=3,4"]
    overrides += ["augment=shift(pixels=3),flip", "train_crop=random_resized_crop(area=(0.2, 1))"]
    recipe = load_recipe("photos", overrides)
    written = tmp_path / "config.json"
    written.write_text(json.dumps({"recipe": recipe.as_dict()}))

    found = read_recipe(written)

    for field in ("image_size", "std", "smaller_first", "model"):
        assert getattr(found, field) == getattr(recipe, field)
    assert found.augment[0].keywords == {"pixels": 3}
    assert found.train_crop.keywords == {"area": (0.2, 1)}
    for damaged in ("{}", "no", '{"recipe": {"epochs": "many"}}', '{"recipe": {"epoch": 3}}'):
        written.write_text(damaged)
        with pytest.raises(InputError, match="has no recipe that can be run"):
            read_recipe(written)


def test_fields_are_replaced_by_values_of_their_type():
    recipe = load_recipe(
        "fashion_mini",
        [
            "epochs=3", "learning_rate=1", "jit=false", "data=a=b", "image_size=32,64",
            "mean=0.1,0.2,0.3", "std=0.5", "augment=flip", "train_crop=none", "model.depth=2",
            "model.pooling=cls", "smaller_first=0.5,0.4",
        ],
    )  # fmt: skip

    assert (recipe.epochs, recipe.jit, recipe.data, recipe.image_size) == (
        3,
        False,
        "a=b",
        (32, 64),
    )
    assert recipe.learning_rate == 1.0
    assert recipe.mean == (0.1, 0.2, 0.3)
    assert recipe.augment == (augment.flip,)
    assert recipe.train_crop is None
    assert recipe.smaller_first == ((0.5, 0.4),)
    assert recipe.std == (0.5,)
    assert recipe.model["depth"] == 2
    assert recipe.model["pooling"] == "cls"
    assert "depth" not in load_recipe("fashion_mini").model


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "no field is called 'epoch'; did you mean epochs"),
        ("decoder={}", "decoder is set field by field, as in decoder.width=96. Got decoder='{}'"),
        ("model.pool=cls", "no field is called 'pool'; did you mean pooling"),
        ("epochs=many", "epochs must be of type int. Got epochs='many'"),
        ("epochs=1.5", "epochs must be of type int"),
        ("epochs=true", "epochs must be of type int"),
        ("jit=1", "jit must be of type bool"),
        ("image_size=1,2,3", "image_size must be of type int | tuple[int, int]"),
        ("augment=flop", "no such augmentation: 'flop'; did you mean flip"),
        ("augment=random_resized_crop", "no such augmentation: 'random_resized_crop'"),
        ("train_crop=flip", "no such augmentation: 'flip'; known are: random_resized_crop"),
        ("model.image_size=32", "model.image_size is decided elsewhere"),
        ("seed=-1", "seed must be in [0, 2**31)"),
        ("epochs", "--set needs key=value. Got 'epochs'"),
        ("epochs=0", "epochs must be at least 1"),
        ("learning_rate=1e999", "learning_rate must be finite"),
        ("learning_rate=-1", "learning_rate must be above 0"),
        ("ema=1.0", "ema must be in [0, 1)"),
        ("channels=2", "1 (grey) or 3 (RGB)"),
        ("mixed_precision=half", "one of float32, mixed_bfloat16"),
        ("validation_fraction=1.0", "in (0, 1)"),
        ("optimizer=adam", "one of adamw, lamb, lion, muon, sgd"),
        ("tune=last-0-blocks", "full, head, lora-8 or last-2-blocks"),
        ("smaller_first=(0.5,0.6),(0.8,0.5)", "below 1 in all"),
        ("smaller_first=0.5", "smaller_first must be of type tuple"),
        ("decoder.mask_ratio=0.5", "decoder.mask_ratio is decided elsewhere"),
        ("decoder.widht=96", "no field is called 'widht'; did you mean width"),
        ("mask_ratio=1.0", "mask_ratio must be in (0, 1)"),
        ("pretrain=mea", "pretrain must be one of none, mae, mim"),
        ("temperature=0", "temperature must be above 0"),
        (
            "augment_images=flip_images",
            "no such augmentation: 'flip_images'; did you mean flip_image",
        ),
        ("layer_decay=0", "layer_decay must be in (0, 1]"),
    ],
)
def test_wrong_overrides_are_refused_by_name(override, message):
    with pytest.raises(InputError, match=re.escape(message)):
        load_recipe("fashion_mini", [override])


@pytest.mark.parametrize("nothing", ["none", "()"])
def test_tuples_can_be_emptied(nothing):
    assert load_recipe("cifar10", [f"smaller_first={nothing}"]).smaller_first == ()


def test_lora_and_growing_images_do_not_go_together():
    with pytest.raises(InputError, match="without LoRA where smaller_first is given"):
        load_recipe("fashion_mini", ["tune=lora-4", "smaller_first=0.5,0.4"])


def test_unknown_recipes_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="'fashion_min'; did you mean fashion_mini"):
        load_recipe("fashion_min")
