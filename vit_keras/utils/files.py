"""Contents -> files that are complete or absent, never half-written."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from vit_keras.utils.errors import InputError


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
    """
    target = pathlib.Path(target).resolve()  # absolute: other processes may have another folder
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.stem}-", dir=target.parent))
    try:
        new = scratch / target.name
        yield new
        if new.is_dir() and target.is_dir():
            _replace_folder(new, target, scratch / "old")
        else:
            os.replace(new, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
