"""Recipes are loaded by name; overrides replace fields by values of their type."""

import json
import re
from functools import partial

import pytest

from training.augment import batches as augment
from training.recipe import Recipe, load_recipe, read_recipe, recipe_names
from vit_keras import InputError
from vit_keras.variants import resolve_config


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_survives_config_json(name, tmp_path):
    recipe = load_recipe(name)

    assert isinstance(recipe, Recipe)
    if recipe.model.image_size:  # otherwise that of the weights
        resolve_config(
            recipe.model.variant,
            image_size=recipe.model.image_size,
            channels=recipe.model.channels,
            **recipe.model.config,
        )
    written = tmp_path / "config.json"
    written.write_text(json.dumps({"recipe": recipe.as_dict()}))
    assert read_recipe(written).as_dict() == recipe.as_dict()


def test_overridden_recipe_survives_config_json(tmp_path):
    overrides = [
        "image_size=32,64",
        "std=0.5",
        "progressive_resizing=0.5,0.4",
        "model.stem_blocks=3,4",
    ]
    overrides += ["augment=shift(pixels=3),flip", "train_crop=random_resized_crop(area=(0.2, 1))"]
    recipe = load_recipe("photos", overrides)
    written = tmp_path / "config.json"
    written.write_text(json.dumps({"recipe": recipe.as_dict()}))

    loaded = read_recipe(written)

    for field in ("image_size", "std", "progressive_resizing", "config"):
        assert loaded.fields()[field] == recipe.fields()[field]
    shift, crop = loaded.augmentation.augment[0], loaded.augmentation.train_crop
    assert isinstance(shift, partial)
    assert isinstance(crop, partial)
    assert shift.keywords == {"pixels": 3}
    assert crop.keywords == {"area": (0.2, 1)}
    for damaged in ("{}", "no", '{"recipe": {"epochs": "many"}}', '{"recipe": {"epoch": 3}}'):
        written.write_text(damaged)
        with pytest.raises(InputError, match="has no recipe that can be run"):
            read_recipe(written)


def test_overrides_are_parsed_by_the_type_of_their_field():
    recipe = load_recipe(
        "fashion_mini",
        [
            "epochs=3",
            "learning_rate=1",
            "jit_compile=false",
            "dataset=a=b",
            "image_size=32,64",
            "mean=0.1,0.2,0.3",
            "std=0.5",
            "augment=flip",
            "train_crop=none",
            "model.depth=2",
            "model.pooling=cls",
            "progressive_resizing=0.5,0.4",
        ],
    )

    assert recipe.optimization.epochs == 3
    assert recipe.execution.jit_compile is False
    assert recipe.data.dataset == "a=b"
    assert recipe.model.image_size == (32, 64)
    assert recipe.optimization.learning_rate == 1.0
    assert recipe.model.mean == (0.1, 0.2, 0.3)
    assert recipe.augmentation.augment == (augment.flip,)
    assert recipe.augmentation.train_crop is None
    assert recipe.augmentation.progressive_resizing == ((0.5, 0.4),)
    assert recipe.model.std == (0.5,)
    assert recipe.model.config["depth"] == 2
    assert recipe.model.config["pooling"] == "cls"
    assert "depth" not in load_recipe("fashion_mini").model.config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", "no field is called 'epoch'; did you mean epochs"),
        ("decoder={}", "decoder is set field by field, as in decoder.width=96. Got decoder='{}'"),
        ("model.pool=cls", "no field is called 'pool'; did you mean pooling"),
        ("epochs=many", "epochs must be of type int. Got epochs='many'"),
        ("epochs=1.5", "epochs must be of type int"),
        ("epochs=true", "epochs must be of type int"),
        ("jit_compile=1", "jit_compile must be of type bool"),
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
        ("ema_momentum=1.0", "ema_momentum must be in [0, 1)"),
        ("channels=2", "1 (grey) or 3 (RGB)"),
        ("mixed_precision=half", "one of float32, mixed_bfloat16"),
        ("validation_fraction=1.0", "in (0, 1)"),
        ("optimizer=adam", "one of adamw, lamb, lion, muon, sgd"),
        ("trainable=last", "trainable must be one of full, last_blocks, lora, head"),
        ("trainable_blocks=0", "trainable_blocks must be at least 1"),
        ("lora_rank=0", "lora_rank must be at least 1"),
        ("progressive_resizing=(0.5,0.6),(0.8,0.5)", "add up to less than 1"),
        ("progressive_resizing=0.5", "progressive_resizing must be of type tuple"),
        ("decoder.mask_ratio=0.5", "decoder.mask_ratio is decided elsewhere"),
        ("decoder.widht=96", "no field is called 'widht'; did you mean width"),
        ("mask_ratio=1.0", "mask_ratio must be in (0, 1)"),
        ("task=mea", "task must be one of classification, distillation, mae, mim"),
        ("temperature=0", "temperature must be above 0"),
        (
            "augment_images=flip_images",
            "no such augmentation: 'flip_images'; did you mean flip_image",
        ),
        ("layer_decay=0", "layer_decay must be in (0, 1]"),
    ],
)
def test_invalid_override_is_an_error_that_names_the_field(override, message):
    with pytest.raises(InputError, match=re.escape(message)):
        load_recipe("fashion_mini", [override])


@pytest.mark.parametrize("empty", ["none", "()"])
def test_tuple_can_be_set_to_empty(empty):
    recipe = load_recipe("cifar10", [f"progressive_resizing={empty}"])

    assert recipe.augmentation.progressive_resizing == ()


def test_lora_with_progressive_resizing_is_an_error():
    with pytest.raises(InputError, match="another one where progressive_resizing is set"):
        load_recipe("fashion_mini", ["trainable=lora", "progressive_resizing=0.5,0.4"])


def test_error_of_an_unknown_recipe_names_the_nearest():
    with pytest.raises(InputError, match="'fashion_min'; did you mean fashion_mini"):
        load_recipe("fashion_min")
