"""Model -> labels.txt and preprocessing.json, which every format carries."""

import dataclasses
import json

import keras

from export.endpoints import endpoints_of


def class_labels(model: keras.Model) -> tuple[str, ...]:
    """The names of the model's classes, in order; their numbers where they have no names.

    It is empty for a model without classes.
    """
    return endpoints_of(model).labels(model)


def metadata_files(model: keras.Model) -> dict[str, str]:
    """The text files of an artefact.

    Returns:
        {"labels.txt": one label per line, if there are labels; "preprocessing.json": how to prepare
        images for the model}.
    """
    files = {"preprocessing.json": json.dumps(dataclasses.asdict(model.preprocessing))}
    labels = class_labels(model)
    if labels:
        files = {"labels.txt": "".join(f"{label}\n" for label in labels), **files}
    return files
