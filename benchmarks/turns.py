"""Contestants -> the order of their turns in a round."""

from collections.abc import Iterable
from typing import TypeVar

Contestant = TypeVar("Contestant")


def alternating(contestants: Iterable[Contestant], number: int) -> list[Contestant]:
    """Orders the contestants of a round.

    Every other round is reversed: no contestant always runs after the same one.

    Args:
        contestants: in the order of the table.
        number: of the round, counted from 0.
    """
    order = list(contestants)
    return order[::-1] if number % 2 else order
