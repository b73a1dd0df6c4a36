"""The one exception that means: what was given cannot be used."""

import contextlib
import difflib
import sys


class InputError(ValueError):
    """A mistake in what the caller gave; its message says what it was and what to try.

    Every other exception but an OSError is a defect.
    """


@contextlib.contextmanager
def one_line_errors():
    """For command lines: prints a user's mistake as one line and exits with status 1.

    Ctrl-C ends with status 130, as shells have it. Defects keep their traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)
    except (InputError, OSError) as error:
        sys.exit("Error: " + " ".join(str(error).split("\n")))


def first_line(error):
    """What an exception of other people's code says, or its name where it says nothing"""
    return str(error).strip().split("\n")[0] or type(error).__name__


def did_you_mean(name, known):
    """'; did you mean a, b?' with the nearest of the known names, else '; known are: a, b, ...'"""
    known = list(known)
    nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if nearest:
        return f"; did you mean {', '.join(nearest)}?"
    more = ", ..." if len(known) > 12 else ""
    return f"; known are: {', '.join(known[:12])}{more}"
