"""Names of formats and quantisations, or "all" -> what to export."""

from collections.abc import Iterable, Sequence

from export.formats import FORMATS, KINDS
from vit_keras.utils.errors import InputError, did_you_mean


def select_formats(names: Sequence[str]) -> list[str]:
    """The formats with these names; for "all", those whose tools are installed.

    Args:
        names: keys of FORMATS, or "all".

    Raises:
        InputError: for an unknown name.
    """
    _check(names, FORMATS, "export format")
    if "all" not in names:
        return list(names)
    missing = {name: row.missing() for name, row in FORMATS.items()}
    for name, reason in missing.items():
        if reason:
            print(f"Left out: {name} needs {reason}.", flush=True)
    return [name for name, reason in missing.items() if not reason]


def select_quantizations(names: Sequence[str]) -> list[str]:
    """The quantisations with these names, or all of KINDS for "all".

    Raises:
        InputError: for an unknown name.
    """
    _check(names, KINDS, "quantization")
    return list(KINDS) if "all" in names else list(names)


def kinds_by_format(formats: Iterable[str], quantizations: Sequence[str]) -> dict[str, list[str]]:
    """{format: those of the quantisations that it has}; prints which formats have none.

    Raises:
        InputError: if no format has any of them.
    """
    kinds = {
        name: [kind for kind in FORMATS[name].kinds if kind in quantizations] for name in formats
    }
    lacking = [
        f"{name} comes in {', '.join(FORMATS[name].kinds)}"
        for name, available in kinds.items()
        if not available
    ]
    if len(lacking) == len(kinds):
        names = " ".join(quantizations)
        raise InputError(f"{'; '.join(lacking)}. Got --quantization {names}.")
    for reason in lacking:
        print(f"Left out: {reason}.", flush=True)
    return {name: available for name, available in kinds.items() if available}


def _check(names, table, what):
    for name in names:
        if name not in (*table, "all"):
            raise InputError(f"no {what} {name!r}{did_you_mean(name, [*table, 'all'])}")
