"""Packages of other versions -> a virtual environment of their own, in pytest's cache."""

import fcntl
import subprocess
import sys


def environment_with(cache, name, *packages):
    """The path of Python in an environment with these packages; installed once.

    Args:
        cache: pytest's, `request.config.cache`.
        name: of the environment, with its versions: another name is another environment.
        packages: as pip takes them.
    """
    folder = cache.mkdir(name)
    python = folder / "venv" / "bin" / "python"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of pytest's processes installs it
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
            (folder / "complete").touch()
    return python
