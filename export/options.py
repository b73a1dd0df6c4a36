"""The settings of an export."""

import dataclasses

from vit_keras.utils.checks import check_choice, check_integer
from vit_keras.utils.errors import InputError

PREPROCESS = ("in-graph", "none")
INPUT_TYPES = ("uint8", "float32")
INTEGERS = ("uint8", "int8")
GELU = ("exact", "sigmoid")
OLD_RUNTIMES = ("2.14",)


@dataclasses.dataclass(frozen=True)
class Options:
    """What artefacts compute, and how much accuracy they may lose.

    Attributes:
        preprocess: of .tflite and .onnx files: "in-graph" for an input of pixels, 0 to 255; "none"
            for an input of float32 images that the caller has normalised.
        input_type: of pixels in .tflite and .onnx files: "uint8", or "float32" for callers that
            cannot pass uint8, such as LiteRT's CompiledModel in Kotlin.
        batch: images per call of such a file; None for one in .tflite, any number in .onnx.
        attention: whether artefacts also return how much each patch counted.
        embed: whether .tflite and .onnx files also return the features that the head reads, by the
            signature `embed` or as one more output.
        top_k: number of labels that a SavedModel returns.
        max_pixels: size of the largest image that a SavedModel decodes, pixels; larger ones are
            refused, so that a small file cannot take all memory.
        jit_compile: whether to compile a SavedModel with XLA, if that is measured to be faster.
        max_drop: accuracy that an artefact may lose against the Keras model, a fraction.
        allow_drop: whether to publish artefacts that lose more.
        output_type: of an int8-full file's answer, "uint8" or "int8".
        gelu: of an int8-full file: "exact" for the model's own, one operation; "sigmoid" for
            x * sigmoid(1.702 x), for accelerators without that operation.
        least_runtime: the oldest TensorFlow Lite that has to run a .tflite file, "2.14", or "" for
            today's.
        author: of the model, for the model card and the metadata of files.
        license: of the model's weights, likewise.
        version: of the model, likewise.

    Raises:
        InputError: for a value out of range.
    """

    preprocess: str = "in-graph"
    input_type: str = "uint8"
    batch: int | None = None
    attention: bool = False
    embed: bool = False
    top_k: int = 5
    max_pixels: int = 50_000_000
    jit_compile: bool = False
    max_drop: float = 0.01
    allow_drop: bool = False
    output_type: str = "uint8"
    gelu: str = "exact"
    least_runtime: str = ""
    author: str = ""
    license: str = ""
    version: str = "1"

    def __post_init__(self) -> None:
        check_choice("preprocess", self.preprocess, PREPROCESS)
        check_choice("input_type", self.input_type, INPUT_TYPES)
        check_choice("output_type", self.output_type, INTEGERS)
        check_choice("gelu", self.gelu, GELU)
        if self.least_runtime:
            check_choice("least_runtime", self.least_runtime, OLD_RUNTIMES)
        for field in ("batch", "top_k", "max_pixels"):
            if getattr(self, field) is not None:
                check_integer(field, getattr(self, field), minimum=1)
        if not 0 <= self.max_drop <= 1:
            raise InputError(f"max_drop must be a fraction in [0, 1]. Got {self.max_drop!r}.")
