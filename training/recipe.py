"""A recipe's name and `key=value` overrides -> Recipe: every number of a training run."""

import dataclasses
import functools
import importlib
import json
import pathlib
import typing
from collections.abc import Iterable
from typing import Any

import pydantic

from training.augment.batches import by_name
from training.augment.options import FUNCTIONS, AugmentationOptions
from training.data.masking import MaskingOptions
from training.data.splits import DataOptions
from training.model.options import (
    ExecutionOptions,
    FineTuningOptions,
    ModelOptions,
    OptimizationOptions,
)
from training.overrides import NESTED, parse_value
from training.rules import refuse
from training.runs.folder import RunFolder
from training.tasks import TASKS
from training.tasks.distillation import DistillationOptions
from vit_keras.utils.errors import InputError, did_you_mean

FOLDER = pathlib.Path(__file__).with_name("recipes")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every number of a run; each file of training/recipes/ defines one.

    The fields of the parts have unique names, so that the command line and `replace` need not
    name the part: `--set learning_rate=1e-3`, `recipe.replace(learning_rate=1e-3)`.

    Attributes:
        task: what the model learns, a key of TASKS: "classification", "mae", "mim" or
            "distillation".
        data: DataOptions.
        model: ModelOptions.
        fine_tuning: FineTuningOptions.
        masking: MaskingOptions, of the tasks "mae" and "mim".
        distillation: DistillationOptions, of the task "distillation".
        augmentation: AugmentationOptions.
        optimization: OptimizationOptions.
        execution: ExecutionOptions.

    Raises:
        InputError: for values that break a rule of their field, or do not fit together.
    """

    task: str = "classification"
    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    fine_tuning: FineTuningOptions = dataclasses.field(default_factory=FineTuningOptions)
    masking: MaskingOptions = dataclasses.field(default_factory=MaskingOptions)
    distillation: DistillationOptions = dataclasses.field(default_factory=DistillationOptions)
    augmentation: AugmentationOptions = dataclasses.field(default_factory=AugmentationOptions)
    optimization: OptimizationOptions = dataclasses.field(default_factory=OptimizationOptions)
    execution: ExecutionOptions = dataclasses.field(default_factory=ExecutionOptions)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            refuse("task", self.task, f"one of {', '.join(TASKS)}")
        if self.fine_tuning.trainable == "lora" and self.augmentation.progressive_resizing:
            refuse("trainable", "lora", "another one where progressive_resizing is set")
        TASKS[self.task].check(self)

    def replace(self, **fields: Any) -> "Recipe":
        """A recipe with other values of some fields, named without their part.

        Raises:
            InputError: for an unknown field, and for values that do not fit.
        """
        changes: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = {}
        for name, value in fields.items():
            if name == "task" or name in part_types():
                changes[name] = value
            else:
                parts.setdefault(part_of(name), {})[name] = value
        for part, values in parts.items():
            changes[part] = dataclasses.replace(getattr(self, part), **values)
        return dataclasses.replace(self, **changes)

    def fields(self) -> dict[str, Any]:
        """{field: value} of all parts."""
        values: dict[str, Any] = {"task": self.task}
        for part in part_types():
            options = getattr(self, part)
            values |= {
                field: getattr(options, field) for field in typing.get_type_hints(type(options))
            }
        return values

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values; functions by name, with their arguments."""
        return self.fields() | self.augmentation.described()


@functools.cache
def part_types() -> dict[str, type]:
    """{field of Recipe that is a part: its dataclass}."""
    hints = typing.get_type_hints(Recipe)
    types = {name: hint for name, hint in hints.items() if isinstance(hint, type)}
    return {name: hint for name, hint in types.items() if dataclasses.is_dataclass(hint)}


@functools.cache
def field_types() -> dict[str, Any]:
    """{field of any part: its type}."""
    types: dict[str, Any] = {"task": str}
    for part in part_types().values():
        types |= typing.get_type_hints(part)
    return types


def part_of(field: str) -> str:
    """The part that has a field.

    Raises:
        InputError: for a field that no part has, with the nearest names.
    """
    for name, part in part_types().items():
        if field in typing.get_type_hints(part):
            return name
    raise InputError(f"no field is called {field!r}{did_you_mean(field, field_types())}")


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Loads training/recipes/NAME.py and replaces fields.

    Args:
        name: a recipe's name.
        overrides: strings "field=value"; "model.field=value" sets a field of the ViTConfig,
            "decoder.field=value" one of the DecoderConfig.

    Raises:
        InputError: for an unknown recipe or field (with the nearest names), or a value of the
            wrong type.
    """
    if name not in recipe_names():
        raise InputError(f"no recipe is called {name!r}{did_you_mean(name, recipe_names())}")
    recipe: Recipe = importlib.import_module(f"training.recipes.{name}").RECIPE
    current = recipe.fields()
    changes: dict[str, Any] = {
        nested.field: dict(current[nested.field]) for nested in NESTED.values()
    }
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"--set needs key=value. Got {override!r}.")
        prefix, dot, field = key.partition(".")
        if dot and prefix in NESTED:
            nested = NESTED[prefix]
            if field in nested.decided_elsewhere:
                raise InputError(
                    f"{key} is decided elsewhere: image_size, channels and mask_ratio are fields "
                    f"of the recipe, and the classes those of the data. Got {override!r}."
                )
            changes[nested.field][field] = parse_value(field, text, nested.types)
        else:
            changes[key] = parse_value(key, text, field_types())
    return recipe.replace(**changes)


def read_recipe(path: pathlib.Path | str) -> Recipe:
    """Reads the Recipe in a run folder's config.json.

    Raises:
        InputError: for a missing file, or one with fields that this version does not have.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"{path.parent} is not a run folder: it has no {path.name}.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        fields = {name: _from_json(name, value) for name, value in record["recipe"].items()}
        return Recipe().replace(**fields)
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} has no recipe that can be run: {error}.") from None


def run_of(model_path: pathlib.Path | str | None) -> RunFolder:
    """The folder of a model file as a run folder; its files need not exist."""
    return RunFolder(pathlib.Path(model_path or "model.keras").parent)


def recipe_names() -> list[str]:
    """Names of the files in training/recipes/."""
    return sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "__init__")


def _from_json(field, value):
    """A value of config.json -> the value of a recipe's field."""
    if field in FUNCTIONS:
        table = FUNCTIONS[field]
        if isinstance(value, list):
            return tuple(by_name(text, table) for text in value)
        return by_name(value, table) if value else None
    if isinstance(value, dict):
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    if field not in field_types():
        raise InputError(f"no field is called {field!r}{did_you_mean(field, field_types())}")
    return pydantic.TypeAdapter(field_types()[field]).validate_python(value)
