"""The one exception that means: what was given cannot be used."""


class InputError(ValueError):
    """A mistake in what the caller gave; its message says what it was and what to try.

    The command lines print it as one line. Every other exception is a defect and keeps its
    traceback.
    """
