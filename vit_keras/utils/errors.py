"""The exception for unusable input, and helpers for its messages."""

import contextlib
import difflib
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Mapping


class InputError(ValueError):
    """A mistake in the caller's input. Its message says what is wrong and what to try.

    Every other exception except OSError is a defect of this project.
    """


# Errors of the operating system while files are written -> what to try.
FULL = {
    errno.ENOSPC: "free some space there, or choose a folder on another disk",
    errno.EDQUOT: "free some of your space there, or choose a folder on another disk",
    errno.EFBIG: "this disk takes no file of that size: choose a folder on another disk",
}
FORBIDDEN = {
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOTDIR: "a part of this path is a file: choose another path",
    errno.EEXIST: "this path is a file: choose another path",
}


class WriteError(OSError):
    """A file cannot be written. Its message names the file and says what to try."""


@contextlib.contextmanager
def naming_write_errors(
    path: str | os.PathLike[str], remedies: Mapping[int, str] = FULL | FORBIDDEN
) -> Iterator[None]:
    """Raises WriteError where the disk is full, or a folder must not be written to.

    Other libraries report a full disk in exceptions of their own, so their messages are searched.

    Args:
        path: the file or folder that is written inside the block.
        remedies: {errno: what to try}, the errors that are replaced.

    Raises:
        WriteError: instead of these errors.
    """
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        code = getattr(error, "errno", None) or _code_in(str(error))
        if code not in remedies or (code in FORBIDDEN and not _concerns(error, path)):
            raise
        reason = f"{os.strerror(code)}; {remedies[code]}"
        raise WriteError(f"cannot write {path}: {reason}") from error


def _code_in(message: str) -> int:
    """The errno of a full disk that an exception's message quotes; 0 if there is none."""
    return next((code for code in FULL if os.strerror(code) in message), 0)


def _concerns(error: BaseException, path: str | os.PathLike[str]) -> bool:
    """Whether the file that an OSError names, if any, is in the folder of `path`."""
    name = getattr(error, "filename", None)
    folder = os.path.dirname(os.path.abspath(path))
    return name is None or os.path.abspath(os.fsdecode(name)).startswith(folder)


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
