"""Files that appear whole or not at all."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def replacing(target):
    """Gives a temporary path beside `target`, which takes its place when the block ends well.

    The path has the target's suffix and does not exist yet; a file or a folder may be made
    there. A folder cannot take the place of an existing one. After an exception nothing is left
    behind, and what stood at `target` is untouched.
    """
    target = pathlib.Path(target).resolve()  # for whoever is handed the path in another folder
    workplace = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.stem}-", dir=target.parent))
    try:
        yield workplace / target.name
        os.replace(workplace / target.name, target)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def write_text(path, text):
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, values):
    """Writes values as indented JSON, whole or not at all."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
