"""Steps of an export -> lines that say what it does, how much is done, and how long the rest takes.

On a terminal, one line is written over and over; in a log, each step has a line, and long steps
have more.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

Step = Callable[[str, float], AbstractContextManager[None]]
TERMINAL_SECONDS = 0.5  # between updates of the line
LOG_SECONDS = 30  # between lines of a long step
# The proportions of the steps: seconds that a Ti/16 and 300 images took. Verifying has the names of
# runtimes.
COSTS = {
    "load": 4,
    "ask": 60,
    "convert": 20,
    "float32": 1,
    "float16": 1,
    "dynamic": 1,
    "int8": 100,
    "int8-full": 60,
    "int16x8": 20,
    "savedmodel": 80,
    "tflite": 10,
    "onnx": 10,
    "": 0,  # formats that are not run
}


def export_cost(conversions: Iterable[tuple[str, Sequence[str]]]) -> float:
    """The cost of an export.

    Args:
        conversions: (runtime, kinds that are made) of each conversion.
    """
    cost = COSTS["load"] + COSTS["ask"]
    for runtime, kinds in conversions:
        cost += COSTS["convert"] + sum(COSTS[kind] + COSTS[runtime] for kind in kinds)
    return cost


def silent(name: str, cost: float) -> AbstractContextManager[None]:
    """A step that is not shown; arguments as `Progress.step`."""
    return contextlib.nullcontext()


class Progress:
    """Shows the progress of work whose steps and their relative costs are known.

    The time left is estimated from the time that the completed steps took; there is none before the
    first step is complete.

    Args:
        total: the sum of the costs of all steps.
    """

    def __init__(self, total: float) -> None:
        self.total = total
        self.done = 0.0  # cost of the completed steps
        self.seconds = 0.0  # that they took
        self.terminal = sys.stdout.isatty()

    @contextlib.contextmanager
    def step(self, name: str, cost: float) -> Iterator[None]:
        """Shows a step while the block runs.

        Args:
            name: what is done.
            cost: of the step, in the unit of the total.
        """
        start, finished = time.monotonic(), threading.Event()
        ticker = threading.Thread(
            target=self._tick, args=(name, cost, start, finished), daemon=True
        )
        ticker.start()
        try:
            yield
        finally:
            finished.set()
            ticker.join()
            self.done += cost
            self.seconds += time.monotonic() - start

    def _tick(self, name, cost, start, finished):
        """Shows the step until it is finished."""
        while True:
            line = self.line(name, cost, time.monotonic() - start)
            # The cursor stays at the start, so that other messages overwrite the line.
            print(f"\x1b[K{line}\r" if self.terminal else f"{line}\n", end="", flush=True)
            if finished.wait(TERMINAL_SECONDS if self.terminal else LOG_SECONDS):
                break
        if self.terminal:
            print("\x1b[K", end="", flush=True)

    def line(self, name: str, cost: float, seconds: float) -> str:
        """The line of a step that has run for a time, for instance "[ 40 %, 2 min left] name"."""
        pace = self.seconds / self.done if self.done else 0.0  # seconds for a cost of 1
        # A step that takes longer than it should is nearly complete.
        part = min(0.95, seconds / (pace * cost)) if pace and cost else 0.0
        done = self.done + part * cost
        left = f", {_duration(pace * (self.total - done))} left" if pace else ""
        return f"[{100 * done / self.total:3.0f} %{left}] {name}"


def _duration(seconds):
    """Seconds -> "8 s", "3 min" or "1.5 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
