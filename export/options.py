"""What may be asked of an export."""

import dataclasses

from vit_keras.config import check_choice, check_integer
from vit_keras.errors import InputError

INPUT_TYPES = ("uint8", "float32")


@dataclasses.dataclass(frozen=True)
class Options:
    """How artefacts are made, and what they may cost.

    Attributes:
        input_type: of .tflite files: "uint8", pixels of 0..255, or "float32", images that the
            caller has normalised.
        batch: images that a .tflite file takes at a time.
        max_drop: accuracy that an artefact may lose against the Keras model, a fraction.
        allow_drop: whether one that loses more is published all the same.
        author, license, version: of the model, for the files that carry such.

    Raises:
        InputError: for a value outside of these.
    """

    input_type: str = "uint8"
    batch: int = 1
    max_drop: float = 0.01
    allow_drop: bool = False
    author: str = ""
    license: str = ""
    version: str = "1"

    def __post_init__(self):
        check_choice("input_type", self.input_type, INPUT_TYPES)
        check_integer("batch", self.batch, minimum=1)
        if not 0 <= self.max_drop <= 1:
            raise InputError(f"max_drop must be a fraction in [0, 1]. Got {self.max_drop!r}.")
