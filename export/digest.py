"""A model, file or folder -> the SHA-256 that identifies it in report.json."""

import dataclasses
import hashlib
import json
import pathlib

import keras


def model_digest(model: keras.Model) -> str:
    """The SHA-256 of what a model computes.

    It does not change when the model is saved and loaded: unlike the bytes of a .keras file, which
    hold dates, it covers the config, preprocessing, class names and weights only.

    Args:
        model: a model of this project.
    """
    facts = {
        "task": model.task,
        "config": model.config.to_fields(),
        "preprocessing": dataclasses.asdict(model.preprocessing),
        "class_names": model.class_names,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for weight in model.weights:
        array = keras.ops.convert_to_numpy(weight)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def artefact_digest(path: pathlib.Path) -> str:
    """The SHA-256 of an artefact.

    Args:
        path: a file; or a folder, whose SHA-256 is that of its list of files, one line
            "SHA-256  path" each in the order of the paths' bytes, as `sha256sum` prints it.
    """
    if path.is_file():
        return _file_digest(path)
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    lines = [f"{_file_digest(files[name])}  {name}\n" for name in sorted(files, key=str.encode)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
