"""Model -> the text files that travel with its artefacts."""

import dataclasses
import json
import zipfile


def metadata_files(model):
    """{"labels.txt": a class a line, "preprocessing.json": how its images were prepared}"""
    return {
        "labels.txt": "".join(f"{name}\n" for name in model.class_names),
        "preprocessing.json": json.dumps(dataclasses.asdict(model.preprocessing)),
    }


def attach_metadata(path, model, options):
    with zipfile.ZipFile(path, "a") as attached:
        for name, text in metadata_files(model).items():
            attached.writestr(name, text)
