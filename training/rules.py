"""Values of a recipe's fields -> InputError for a value that breaks its field's rule."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vit_keras.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value must be.

    Attributes:
        text: completes the sentence "FIELD must be ...".
        holds: value -> whether the rule holds.
    """

    text: str
    holds: Callable[[Any], bool]


AT_LEAST_1 = Rule("at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Rule("0 or more", lambda value: value >= 0)
POSITIVE = Rule("above 0", lambda value: value > 0)
FRACTION = Rule("in [0, 1)", lambda value: 0 <= value < 1)
INNER_FRACTION = Rule("in (0, 1)", lambda value: 0 < value < 1)
DECAY = Rule("in (0, 1]", lambda value: 0 < value <= 1)


def one_of(choices: Iterable[str]) -> Rule:
    """The rule that a value is one of the choices."""
    names = tuple(choices)
    return Rule(f"one of {', '.join(names)}", lambda value: value in names)


def check_fields(options: Any, rules: Mapping[str, Rule]) -> None:
    """Checks the fields of a dataclass: every float is finite, and every rule holds.

    Raises:
        InputError: for the first value that breaks its rule.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            refuse(field.name, value, "finite")
    for name, rule in rules.items():
        value = getattr(options, name)
        if not rule.holds(value):
            refuse(name, value, rule.text)


def refuse(field: str, value: object, rule: str) -> None:
    """Raises InputError: FIELD must be RULE."""
    raise InputError(f"{field} must be {rule}. Got {field}={value!r}.")
