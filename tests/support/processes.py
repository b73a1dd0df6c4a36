"""Processes that tests start: their environment, and waiting for them."""

import os
import pathlib
import time

TESTS = pathlib.Path(__file__).parents[1]


def environment(**variables):
    """Returns os.environ with more variables, for programs that import the project and support."""
    folders = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders)), **variables}


def wait_for(condition, process, seconds=300):
    """Waits until `condition()` is true, while the process runs."""
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()
