"""Waiting for what other processes do."""

import time


def wait_for(found, process, seconds=300):
    """Waits until `found()` while the process runs."""
    deadline = time.monotonic() + seconds
    while not found() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found()
