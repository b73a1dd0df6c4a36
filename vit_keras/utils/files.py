"""Files that appear whole or not at all."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile

from vit_keras.utils.errors import InputError


@contextlib.contextmanager
def replacing(target):
    """Gives a temporary path beside `target`, which takes its place when the block ends well.

    The path has the target's suffix and does not exist yet; a file or a folder may be made
    there. After an exception nothing is left behind, and what stood at `target` is untouched.

    Raises:
        InputError: where a folder would take the place of one that holds files of other names,
            which would be lost.
    """
    target = pathlib.Path(target).resolve()  # for whoever is handed the path in another folder
    workplace = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.stem}-", dir=target.parent))
    try:
        new = workplace / target.name
        yield new
        if new.is_dir() and target.is_dir():
            _replace_folder(new, target, workplace / "old")
        else:
            os.replace(new, target)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _replace_folder(new, target, aside):
    lost = sorted(_names(target) - _names(new))
    if lost:
        raise InputError(
            f"{target} already holds {', '.join(lost[:3])}{', ...' * (len(lost) > 3)}, which would "
            f"be lost: what is written there has none of that name. Name another place."
        )
    os.rename(target, aside)  # folders do not replace filled ones: for a moment there is none
    try:
        os.rename(new, target)
    except OSError:
        os.rename(aside, target)
        raise


def _names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def write_text(path, text):
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, values):
    """Writes values as indented JSON, whole or not at all."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
