"""Model -> labels.txt and preprocessing.json, which every format carries."""

import dataclasses
import json


def class_labels(model):
    """The names of the model's classes, in order; their numbers where they have no names."""
    return model.class_names or tuple(map(str, range(model.output_shape[-1])))


def metadata_files(model, labels):
    """{"labels.txt": a label a line, "preprocessing.json": how the model's images were prepared}"""
    return {
        "labels.txt": "".join(f"{label}\n" for label in labels),
        "preprocessing.json": json.dumps(dataclasses.asdict(model.preprocessing)),
    }
