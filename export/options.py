"""What may be asked of an export."""

import dataclasses

from vit_keras.utils.checks import check_choice, check_integer
from vit_keras.utils.errors import InputError

PREPROCESS = ("in-graph", "none")


@dataclasses.dataclass(frozen=True)
class Options:
    """How artefacts are made, and what they may cost.

    Attributes:
        preprocess: of .tflite and .onnx files: "in-graph", which take uint8 pixels of 0..255, or
            "none", which take float32 images that the caller has normalised.
        batch: images that such a file takes at a time; None for one in .tflite, any number in
            .onnx.
        attention: whether artefacts also tell how much each patch counted.
        top_k: labels that a SavedModel names.
        max_pixels: of the images that a SavedModel decodes; larger ones are refused, so that a
            small file cannot take all memory.
        jit_compile: whether a SavedModel is compiled by XLA, where that is measured to be faster.
        max_drop: accuracy that an artefact may lose against the Keras model, a fraction.
        allow_drop: whether one that loses more is published all the same.
        author, license, version: of the model, for the files that carry such.

    Raises:
        InputError: for a value outside of these.
    """

    preprocess: str = "in-graph"
    batch: int | None = None
    attention: bool = False
    top_k: int = 5
    max_pixels: int = 50_000_000
    jit_compile: bool = False
    max_drop: float = 0.01
    allow_drop: bool = False
    author: str = ""
    license: str = ""
    version: str = "1"

    def __post_init__(self):
        check_choice("preprocess", self.preprocess, PREPROCESS)
        for field in ("batch", "top_k", "max_pixels"):
            if getattr(self, field) is not None:
                check_integer(field, getattr(self, field), minimum=1)
        if not 0 <= self.max_drop <= 1:
            raise InputError(f"max_drop must be a fraction in [0, 1]. Got {self.max_drop!r}.")
