"""Folders that all of pytest's processes share."""

import fcntl
import os
import shutil


def shared_folder(tmp_path_factory, name, build):
    """Returns a folder that `build(folder)` fills once per test session.

    Each process of pytest-xdist has session fixtures of its own; exports are too slow to repeat
    them there. Tests must not write to the folder.

    Args:
        tmp_path_factory: pytest's fixture.
        name: name of the folder, unique in the session.
        build: called with the path of the empty folder, in one process only.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # holds the folders of all workers
    folder, complete = root / name, root / f"{name}.complete"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            build(folder)
            complete.touch()
    return folder
