"""The exception for unusable input, and helpers for its messages."""

import contextlib
import difflib
import sys
from collections.abc import Iterable, Iterator


class InputError(ValueError):
    """A mistake in the caller's input. Its message says what is wrong and what to try.

    Every other exception except OSError is a defect of this project.
    """


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Prints a user's mistake as one line and exits with status 1; for command lines.

    Ctrl-C exits with status 130, the shells' convention. Defects keep their traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)
    except (InputError, OSError) as error:
        sys.exit("Error: " + " ".join(str(error).split("\n")))


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message, or its class name.

    Args:
        error: any exception.

    Returns:
        One line.
    """
    return str(error).strip().split("\n")[0] or type(error).__name__


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Suggests names for a message.

    Args:
        name: the unknown name.
        known: the known names.

    Returns:
        "; did you mean a, b?" with the nearest known names; "; known are: a, b, ..." if none is
        near.
    """
    known = list(known)
    nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if nearest:
        return f"; did you mean {', '.join(nearest)}?"
    more = ", ..." if len(known) > 12 else ""
    return f"; known are: {', '.join(known[:12])}{more}"
