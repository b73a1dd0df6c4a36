"""A format -> the keyword arguments of the Python function that writes it, with their types.

Those without a description here are fields of `Options`. This file imports nothing that takes long,
so that `import export` does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import numpy as np


class Keywords(TypedDict, total=False):
    """Keyword arguments of every format.

    Attributes:
        merge_tokens: patches that every block merges into others, for speed; 0, the default, for
            none.
        data: images to verify on: a dataset or folder as for `python -m training fit --data`, or
            (uint8 images (count, height, width, channels), labels (count,)); by default those that
            the model was trained on, if it is a path in a run folder.
        data_dir: folder of the files of TFDS or fashion_mnist.
        count: images to evaluate on, at most; 1000 by default.
        attention: see `export.options.Options`, like the other keywords.
        max_drop: likewise.
        allow_drop: likewise.
    """

    merge_tokens: int
    data: str | tuple[np.ndarray, np.ndarray]
    data_dir: str
    count: int
    attention: bool
    max_drop: float
    allow_drop: bool


class SavedModelKeywords(Keywords, total=False):
    """Those of SavedModels: those of every format, and three more."""

    top_k: int
    max_pixels: int
    jit_compile: bool


class AboutKeywords(Keywords, total=False):
    """Those of web pages and Core ML: those of every format, and what metadata records."""

    author: str
    license: str
    version: str


class PixelKeywords(AboutKeywords, total=False):
    """Those of .onnx: those above, and what a file takes and returns."""

    preprocess: str
    input_type: str
    batch: int | None
    embed: bool


class TFLiteKeywords(PixelKeywords, total=False):
    """Those of .tflite: those of .onnx, and three more."""

    output_type: str
    gelu: str
    least_runtime: str
