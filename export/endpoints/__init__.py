"""Model -> the functions that its artefacts compute, by task."""

import keras

from export.endpoints.classification import ClassificationEndpoints
from export.endpoints.endpoints import Endpoints
from vit_keras.utils.errors import InputError

# What a model learns, its attribute `task` -> how it is exported. Adding a task: a row here.
ENDPOINTS: dict[str, Endpoints] = {
    "classification": ClassificationEndpoints(),
}


def endpoints_of(model: keras.Model, path: object = None) -> Endpoints:
    """The export side of a model's task.

    Args:
        model: a model of this project.
        path: its .keras file, for the message.

    Raises:
        InputError: for a model of another project, or of a task that is not exported.
    """
    name = path or model.name
    task = getattr(model, "task", None)
    if task is None:
        raise InputError(f"{name} is not a model of vit_keras; build one with build_vit.")
    if task not in ENDPOINTS:
        raise InputError(
            f"{name} is a model for {task}, which has no export; exported are models for "
            f"{', '.join(ENDPOINTS)}. A pre-trained model is fine-tuned first: "
            f"python -m training fit finetune --weights {path or 'MODEL.keras'} --data IMAGES"
        )
    return ENDPOINTS[task]


def inference_model(model: keras.Model, merge_tokens: int = 0) -> keras.Model:
    """A model of the same weights as artefacts compute it, see `Endpoints.inference_model`."""
    return endpoints_of(model).inference_model(model, merge_tokens)
