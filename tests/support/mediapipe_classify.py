"""Runs in MediaPipe's own environment: reads metadata by its schema, and classifies images.

standard input, JSON: [model.tflite, [[image file, region or null], ...]]; a region is
    {"left": ..., "top": ..., "right": ..., "bottom": ...}, fractions of the image's sides
standard output, JSON: {"metadata": ..., "answers": [{label: score}, ...]}; the answers are
    MediaPipe's error message where it refuses the model
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
    if not metadata_schema.ModelMetadata.ModelMetadataBufferHasIdentifier(content, 0):
        raise ValueError(f"the metadata of {path} has another identifier")
    return to_json(metadata_schema.ModelMetadataT.InitFromPackedBuf(content))


def to_json(value):
    """A generated object -> dicts, lists, numbers and strings, without absent fields."""
    if hasattr(value, "__dict__"):
        fields = vars(value).items()
        return {name: to_json(field) for name, field in fields if field is not None}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.decode() if isinstance(value, bytes) else value


def classify(path, tasks):
    options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=path), max_results=-1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image, region in tasks:
            result = classifier.classify(
                mediapipe.Image.create_from_file(image),
                vision.ImageProcessingOptions(region and RectF(**region)),
            )
            (head,) = (head for head in result.classifications if head.head_name == "probabilities")
            yield {category.category_name: category.score for category in head.categories}


path, tasks = json.load(sys.stdin)
metadata = read_metadata(path)
answers: list | str
try:
    answers = list(classify(path, tasks))
except (NotImplementedError, RuntimeError, ValueError) as error:
    answers = str(error)
json.dump({"metadata": metadata, "answers": answers}, sys.stdout)
