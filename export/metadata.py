"""Model -> the text files that travel with its artefacts."""

import dataclasses
import json


def metadata_files(model):
    """{"labels.txt": a class a line, "preprocessing.json": how its images were prepared}"""
    return {
        "labels.txt": "".join(f"{name}\n" for name in model.class_names),
        "preprocessing.json": json.dumps(dataclasses.asdict(model.preprocessing)),
    }
