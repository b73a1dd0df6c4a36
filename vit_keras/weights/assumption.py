"""What a checkpoint does not specify -> Assumption: the field, the value used for it, and why."""

import dataclasses
from collections.abc import Collection, Iterable


@dataclasses.dataclass(frozen=True)
class Assumption:
    """A value that a checkpoint does not specify and that was assumed.

    Attributes:
        field: of ViTConfig; "mean" or "std" of Preprocessing; or "decoder.heads", of the decoder
            of a masked autoencoder.
        value: the value used.
        why: the reason for the value, and what to do if it is wrong.
    """

    field: str
    value: object
    why: str

    def __str__(self) -> str:
        return f"{self.field}={self.value!r}"


def without_fields(
    assumptions: Iterable[Assumption], fields: Collection[str]
) -> tuple[Assumption, ...]:
    """Assumptions about other fields than these."""
    return tuple(assumption for assumption in assumptions if assumption.field not in fields)


def describe(assumptions: Iterable[Assumption]) -> list[str]:
    """One line for each reason: "assumed mean=0.5, std=0.5: usual for such models"."""
    reasons: dict[str, list[str]] = {}
    for assumption in assumptions:
        reasons.setdefault(assumption.why, []).append(str(assumption))
    return [f"assumed {', '.join(values)}: {why}" for why, values in reasons.items()]
