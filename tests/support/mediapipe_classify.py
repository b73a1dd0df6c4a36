"""Runs in MediaPipe's own environment: reads metadata by its schema, and classifies images.

standard input, JSON: [model.tflite, [[image file, part of it or null], ...]], a part being
    {"left": ..., "top": ..., "right": ..., "bottom": ...}, fractions of the image's sides
standard output, JSON: {"metadata": ..., "answers": [{label: score}, ...]}; the answer is a text
    where MediaPipe refuses the model
"""

import json
import sys

import mediapipe
import numpy as np
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema
from mediapipe.tasks.metadata import schema_py_generated as schema
from mediapipe.tasks.python import BaseOptions, vision
from mediapipe.tasks.python.components.containers.rect import RectF


def read_metadata(path):
    with open(path, "rb") as file:
        model = schema.ModelT.InitFromPackedBuf(file.read())
    (entry,) = (entry for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    content = model.buffers[entry.buffer].data.tobytes()
    assert metadata_schema.ModelMetadata.ModelMetadataBufferHasIdentifier(content, 0)
    return plain(metadata_schema.ModelMetadataT.InitFromPackedBuf(content))


def plain(value):
    """A generated object -> what JSON has, without the fields that are not there"""
    if hasattr(value, "__dict__"):
        fields = vars(value).items()
        return {name: plain(field) for name, field in fields if field is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.decode() if isinstance(value, bytes) else value


def classify(path, tasks):
    options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=path), max_results=-1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image, part in tasks:
            found = classifier.classify(
                mediapipe.Image.create_from_file(image),
                vision.ImageProcessingOptions(part and RectF(**part)),
            )
            (head,) = (head for head in found.classifications if head.head_name == "probabilities")
            yield {each.category_name: each.score for each in head.categories}


path, tasks = json.load(sys.stdin)
try:
    answers = list(classify(path, tasks))
except (NotImplementedError, RuntimeError, ValueError) as error:
    answers = str(error)
json.dump({"metadata": read_metadata(path), "answers": answers}, sys.stdout)
