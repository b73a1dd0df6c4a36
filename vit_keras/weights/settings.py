"""config.json of another project -> Settings: values whose type and range are checked."""

import dataclasses
import math
import reprlib
from collections.abc import Mapping
from typing import Any, NoReturn

from vit_keras.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class Settings:
    """The contents of a settings file; each value is checked when it is read.

    A reader returns its default for a setting that the file does not have. null is the same as no
    setting where a string, a list or an object is read, and an error for numbers and switches.
    Every reader raises an InputError for a value of another type or range.

    Attributes:
        file: name of the file, for error messages.
        values: contents of the file, {} if there is none.
    """

    file: str = ""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values)

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def without_nulls(self) -> "Settings":
        """These settings without null, which Hugging Face writes for a processor's defaults."""
        values = {name: value for name, value in self.values.items() if value is not None}
        return Settings(self.file, values)

    def refuse(self, name: str, expectation: str) -> NoReturn:
        """Raises an InputError that says what the setting must be.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{self.file}: {name} must be {expectation}. Got {reprlib.repr(self.values[name])}. "
            f"Correct it, or remove the file and pass its settings to from_weights (heads=N, ...)."
        )

    def section(self, name: str) -> "Settings":
        """The settings of a nested object; empty if there is none."""
        values = self.values.get(name)
        if values is None:
            values = {}
        if not isinstance(values, dict):
            self.refuse(name, "an object")
        return Settings(self.file, values)

    def with_section(self, name: str) -> "Settings":
        """These settings, replaced by those of a nested object where it has them."""
        return Settings(self.file, {**self.values, **self.section(name).values})

    def integer(self, name: str, default: int | None = None, minimum: int = 1) -> int | None:
        """A whole number of at least `minimum`."""
        if name not in self:
            return default
        value = self.values[name]
        if not _is_integer(value, minimum):
            self.refuse(name, f"a whole number of at least {minimum}")
        return value

    def number(self, name: str, default: float, at_most: float = math.inf) -> float:
        """A finite number above 0."""
        value = self.values.get(name, default)
        if not _is_number(value) or not 0 < value <= at_most:
            limit = "" if at_most == math.inf else f" and at most {at_most}"
            self.refuse(name, f"a number above 0{limit}")
        return float(value)

    def boolean(self, name: str, default: bool) -> bool:
        """Either true or false."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            self.refuse(name, "true or false")
        return value

    def numbers(self, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """A list of finite numbers, at least one."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, list) or not value or not all(map(_is_number, value)):
            self.refuse(name, "a list of numbers")
        return tuple(value)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of whole numbers of at least 1; None if there is none."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(_is_integer(side) for side in value):
            self.refuse(name, "a list of whole numbers of at least 1")
        return tuple(value)

    def sides(self, name: str) -> int | tuple[int, ...] | None:
        """Pixels, one number for a square or [height, width]; None if there are none."""
        value = self.values.get(name)
        if value is None or _is_integer(value):
            return value
        sides = value if isinstance(value, list) else []
        if len(sides) != 2 or not all(_is_integer(side) for side in sides):
            self.refuse(name, "pixels, one whole number or [height, width]")
        return tuple(sides)

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self.refuse(name, "a string")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty if there is none."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self.refuse(name, "a list of strings")
        return tuple(value)

    def choice(self, name: str, choices: Mapping[str, str]) -> str | None:
        """The value of `choices` for a key in the file; None if there is none.

        Raises:
            InputError: for a key that `choices` does not have.
        """
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or value not in choices:
            raise InputError(
                f"{self.file}: {name}={reprlib.repr(value)} is not supported; "
                f"supported are {', '.join(choices)}."
            )
        return choices[value]


def _is_integer(value, minimum=1):
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _is_number(value):
    # The comparison also takes whole numbers that are too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300
