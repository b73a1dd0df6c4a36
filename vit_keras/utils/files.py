"""Contents -> files that are complete or absent, never half-written."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from vit_keras.utils.errors import FULL, InputError, naming_write_errors

PREFIX = ".vit_keras-"  # of temporary folders; tempfile adds eight characters
_LEFTOVER = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}")
LEFTOVER_SECONDS = 24 * 60 * 60  # no process of ours works so long without writing a file


@contextlib.contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Gives a temporary path that replaces `target` when the block ends without an exception.

    The temporary path has the target's suffix and does not exist yet; create a file or a folder
    there. After an exception it is deleted, and `target` is unchanged.

    Args:
        target: path of a file or a folder.

    Yields:
        The temporary path, in the folder of `target`.

    Raises:
        InputError: if a folder would replace one that holds files of other names, which would be
            lost.
        WriteError: if the disk is full, or the folder must not be written to.
    """
    target = pathlib.Path(target).resolve()  # absolute: other processes may have another folder
    with naming_write_errors(target):
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX, dir=target.parent))
        try:
            new = scratch / target.name
            yield new
            if new.is_dir() and target.is_dir():
                _replace_folder(new, target, scratch / "old")
            else:
                os.replace(new, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder() -> Iterator[pathlib.Path]:
    """Gives a folder for temporary files that is deleted when the block ends.

    Yields:
        Its path.

    Raises:
        WriteError: if its disk is full.
    """
    root = tempfile.gettempdir()
    remedy = "free some space there, or set TMPDIR to a folder on another disk"
    with (
        naming_write_errors(root, dict.fromkeys(FULL, remedy)),
        tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder,
    ):
        yield pathlib.Path(folder)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Removes what killed processes of this user left: temporary folders older than a day.

    Args:
        folder: that `replacing` wrote to, or the one for temporary files.
    """
    for path in pathlib.Path(folder).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another process removes it, too
            ours = _LEFTOVER.fullmatch(path.name) and path.lstat().st_uid == os.geteuid()
            if ours and time.time() - _last_change(path) > LEFTOVER_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _last_change(folder: pathlib.Path) -> float:
    """When a folder or something in it changed last, seconds since 1970."""
    return max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])


def _replace_folder(new: pathlib.Path, target: pathlib.Path, backup: pathlib.Path) -> None:
    lost = sorted(_names(target) - _names(new))
    if lost:
        names = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        raise InputError(
            f"{target} already holds {names}, which would be lost: the new folder has no files of "
            f"these names. Choose another path."
        )
    os.rename(target, backup)  # a rename cannot replace a folder with files: briefly there is none
    try:
        os.rename(new, target)
    except OSError:
        os.rename(backup, target)
        raise


def _names(folder: pathlib.Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a UTF-8 text file, completely or not at all.

    Args:
        path: of the file.
        text: its contents.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], values: Any) -> None:
    """Writes values as indented JSON, completely or not at all.

    Args:
        path: of the file.
        values: anything that JSON can hold.
    """
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
