"""Names and rows -> Markdown text and tables."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tabulate import tabulate

# Characters with a meaning in Markdown. Left as they are: a bracket that no address follows, and
# an underscore within a word.
_SPECIAL = re.compile(r"[\\`*~<&|$#]|\](?=\()|(?<![^\W_])_|_(?![^\W_])")


def escape(text: Any) -> str:
    """Returns Markdown that shows any text as it is, within a line or the cell of a table."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(str(text).split()))


def markdown_table(
    rows: Iterable[Iterable[Any] | dict[str, Any]], headers: Sequence[str] | str, **options: Any
) -> str:
    """Returns a Markdown table, its cells written as `str` writes them.

    Args:
        rows: of cells, or of {header: cell} where headers is "keys".
        headers: of the columns.
        **options: of `tabulate.tabulate`. `tablefmt="pipe"` and `colalign` align columns.
    """
    defaults = {"tablefmt": "github", "disable_numparse": True}
    return tabulate(rows, headers, **{**defaults, **options})
