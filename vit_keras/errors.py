"""The one exception that means: what was given cannot be used."""

import contextlib
import sys


class InputError(ValueError):
    """A mistake in what the caller gave; its message says what it was and what to try.

    Every other exception but an OSError is a defect.
    """


@contextlib.contextmanager
def one_line_errors():
    """For command lines: prints a user's mistake as one line and exits with status 1.

    Defects keep their traceback.
    """
    try:
        yield
    except (InputError, OSError) as error:
        sys.exit(f"Error: {error}")
