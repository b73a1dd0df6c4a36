"""A float32 artefact and what goes with it: what every kind of quantisation starts from."""

import dataclasses
import pathlib

import keras

from export.images import Images
from export.options import Options


@dataclasses.dataclass(frozen=True)
class Source:
    """The float32 artefact of a format.

    Attributes:
        path: of the artefact, a file or folder.
        model: the model as exported.
        images: {"calibration", "search", "evaluation": Images}.
        options: Options.
    """

    path: pathlib.Path
    model: keras.Model
    images: dict[str, Images]
    options: Options
