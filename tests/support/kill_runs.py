"""Commands of `python -m training` -> runs in forks of this process, which are killed at random.

python tests/support/kill_runs.py < {"first", "resume": arguments, "run": folder, "kills": count}

The first command is killed, then resumed and killed again, `kills` times in all, and resumed once
more to its end. Prints the step of the newest checkpoint after each kill, as JSON. TensorFlow is
imported once and not by every run.
"""

import json
import os
import pathlib
import random
import signal
import sys
import time

import training.fit  # noqa: F401 (imports TensorFlow before the forks)
from training.__main__ import main as train

SECONDS = 900  # for a run to write its next checkpoint


def newest_step(run):
    """The step of the newest checkpoint; 0 if there is none."""
    return max((int(path.stem[5:]) for path in run.glob("checkpoints/*.npz")), default=0)


def fork(arguments):
    """Starts a command in a child process -> its id."""
    child = os.fork()
    if not child:
        os.dup2(2, 1)  # standard output is for the steps
        status = 1
        try:
            train(arguments)
            status = 0
        finally:
            os._exit(status)
    return child


def kill_after_checkpoint(child, run, step, seconds):
    """Kills the child some time after it has written a checkpoint beyond the step."""
    deadline = time.monotonic() + SECONDS
    while newest_step(run) <= step:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the run ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def main():
    task = json.load(sys.stdin)
    run, moments, steps = pathlib.Path(task["run"]), random.Random(0), [0]
    arguments = task["first"]
    for _ in range(task["kills"]):
        kill_after_checkpoint(fork(arguments), run, steps[-1], moments.uniform(0, 0.5))
        steps.append(newest_step(run))
        arguments = task["resume"]
    _, status = os.waitpid(fork(arguments), 0)
    assert status == 0
    json.dump(steps, sys.stdout)


if __name__ == "__main__":
    main()
