"""Values from a caller -> checked values, or an InputError that names the argument."""

import operator
from collections.abc import Iterable
from typing import Any

from vit_keras.utils.errors import InputError


def as_image_size(image_size: Any) -> tuple[int, int]:
    """Converts an image size to (height, width).

    Args:
        image_size: pixels, an int for square images or (height, width).

    Returns:
        (height, width), pixels.

    Raises:
        InputError: for anything else, and for sides below 1 pixel.
    """
    size = image_size if isinstance(image_size, list | tuple) else (image_size, image_size)
    if len(size) != 2:
        raise InputError(
            f"image_size must be an int or (height, width), in pixels. Got {image_size!r}."
        )
    height, width = (check_integer("image_size", side, minimum=1) for side in size)
    return height, width


def check_integer(field: str, value: Any, minimum: int) -> int:
    """Checks a whole number.

    Args:
        field: name of the argument, for the message.
        value: an int or a NumPy integer; bools are refused.
        minimum: the smallest value that is accepted.

    Returns:
        The value as a plain int.

    Raises:
        InputError: for anything else.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if isinstance(value, bool) or number < minimum:
        raise InputError(
            f"{field} must be a whole number of at least {minimum}. Got {field}={value!r}."
        )
    return number


def check_fraction(field: str, value: Any) -> None:
    """Checks a number in [0, 1), such as a dropout rate.

    Args:
        field: name of the argument, for the message.
        value: the number.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise InputError(f"{field} must be a fraction in [0, 1). Got {field}={value!r}.")


def check_choice(field: str, value: Any, choices: Iterable[Any]) -> None:
    """Checks that a value is one of several.

    Args:
        field: name of the argument, for the message.
        value: the value.
        choices: the accepted values.

    Raises:
        InputError: for any other value.
    """
    choices = list(choices)
    if value not in choices:
        raise InputError(
            f"{field} must be one of {', '.join(map(str, choices))}. Got {field}={value!r}."
        )


def store_integers(config: Any, fields: Iterable[str], minimum: int) -> None:
    """Checks fields of a frozen dataclass as `check_integer` does, and stores them as ints.

    Args:
        config: the instance, in its __post_init__.
        fields: names of the fields.
        minimum: the smallest value that is accepted.

    Raises:
        InputError: as `check_integer`.
    """
    for field in fields:
        value = check_integer(field, getattr(config, field), minimum)
        object.__setattr__(config, field, value)  # a frozen instance refuses plain assignment


def check_divisible_size(image_size: tuple[int, int], patch_size: int) -> None:
    """Checks that whole patches cover an image.

    Args:
        image_size: (height, width), pixels.
        patch_size: pixels.

    Raises:
        InputError: with the nearest image size, if they do not.
    """
    if any(side % patch_size for side in image_size):
        nearest = tuple(max(1, round(side / patch_size)) * patch_size for side in image_size)
        raise InputError(
            f"image_size must be a multiple of patch_size. Got image_size={image_size}, "
            f"patch_size={patch_size}; try image_size={nearest}."
        )


def check_heads(heads: int, width: int) -> None:
    """Checks that attention heads divide the width of a token.

    Args:
        heads: number of attention heads.
        width: D, the length of a token.

    Raises:
        InputError: with the nearest number of heads, if they do not.
    """
    if width % heads:
        divisors = (number for number in range(1, width + 1) if width % number == 0)
        nearest = min(divisors, key=lambda divisor: abs(divisor - heads))
        raise InputError(
            f"heads must divide width. Got heads={heads}, width={width}; try heads={nearest}."
        )


def check_sincos_width(width: int) -> None:
    """Checks the width of a token that gets fixed positions.

    Args:
        width: D, the length of a token.

    Raises:
        InputError: with the nearest width, unless it is divisible by 4.
    """
    if width % 4:
        raise InputError(
            f"sincos2d positions need a width divisible by 4 (sine and cosine of x and y). "
            f"Got width={width}; try width={max(4, round(width / 4) * 4)}."
        )
