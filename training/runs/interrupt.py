"""Ctrl-C and SIGTERM -> an event at which a run saves its state and stops."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Yields an event that Ctrl-C or SIGTERM sets; a second signal interrupts at once."""
    stop_event = threading.Event()

    def handle(number, frame):
        if stop_event.is_set():
            raise KeyboardInterrupt
        stop_event.set()
        print("\nStopping after saving the state; again to stop at once.", flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield stop_event  # only the main thread receives signals
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
