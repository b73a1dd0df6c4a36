"""Text of a `--set key=value` -> the value, by the type of the field."""

import ast
import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import pydantic

from training.augment.batches import by_name
from training.augment.options import FUNCTIONS
from vit_keras.config import ViTConfig
from vit_keras.tasks.masked import DecoderConfig
from vit_keras.utils.errors import InputError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Nested:
    """A field of a recipe that is set field by field, as in --set model.depth=8.

    Attributes:
        field: of the recipe, a dict.
        types: {key: type of its value}.
        decided_elsewhere: keys that cannot be set there.
    """

    field: str
    types: Mapping[str, Any]
    decided_elsewhere: tuple[str, ...]


NESTED = {
    "model": Nested("config", ViTConfig.field_types(), ("image_size", "channels", "num_classes")),
    "decoder": Nested("decoder", typing.get_type_hints(DecoderConfig), ("mask_ratio",)),
}
_SPELLINGS = {"true": "True", "false": "False", "none": "None"}


def parse_value(key: str, text: str, types: Mapping[str, Any]) -> Any:
    """Parses the text of a field by its type; augmentations by name, as 'flip,shift(pixels=2)'.

    Args:
        key: name of the field.
        text: of the value.
        types: {field: type}.

    Raises:
        InputError: for an unknown field, or a text that is not a value of its type.
    """
    for prefix, nested in NESTED.items():
        if key in (prefix, nested.field) and nested.field in types:
            raise InputError(
                f"{key} is set field by field, as in {prefix}.width=96. Got {key}={text!r}."
            )
    if key not in types:
        raise InputError(f"no field is called {key!r}{did_you_mean(key, types)}")
    expected = types[key]
    if expected is str or (expected == str | None and text != "none"):
        return text
    if key in FUNCTIONS:
        return _functions(key, text)
    return _checked(key, text, _literal(key, text, expected), expected)


def _functions(key, text):
    """'flip,shift(pixels=2)' -> the functions of these names; 'none' -> none."""
    table = FUNCTIONS[key]
    if key == "train_crop":
        return None if text == "none" else by_name(text, table)
    names = [] if text == "none" else _split_calls(text)
    return tuple(by_name(name, table) for name in names)


def _literal(key, text, expected):
    """The text as a Python literal, a single number or pair as a tuple where one is expected."""
    try:
        value = ast.literal_eval(_SPELLINGS.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    if key == "progressive_resizing":
        pairs = value or ()
        single = isinstance(pairs, tuple) and pairs and not isinstance(pairs[0], tuple)
        return (pairs,) if single else pairs
    numbers = expected in (tuple[float, ...], tuple[float, ...] | None)
    return (value,) if numbers and isinstance(value, int | float) else value


def _checked(key, text, value, expected):
    try:
        return pydantic.TypeAdapter(expected).validate_python(value, strict=True)
    except pydantic.ValidationError:
        name = expected.__name__ if isinstance(expected, type) else str(expected)
        raise InputError(f"{key} must be of type {name}. Got {key}={text!r}.") from None


def _split_calls(text):
    """'f(a=1, b=2), g' -> ['f(a=1, b=2)', 'g']; text that is not Python is split at commas."""
    try:
        calls = ast.parse(f"[{text}]", mode="eval").body
        return [ast.unparse(call) for call in getattr(calls, "elts", [])]
    except SyntaxError:
        return text.split(",")
