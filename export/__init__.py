"""model.keras -> artefacts that run without this project, each verified in its own runtime."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np


def to_saved_model(
    model: keras.Model | str | pathlib.Path,
    folder: str | pathlib.Path,
    *,
    merge_tokens: int = 0,
    data: str | tuple[np.ndarray, np.ndarray] = "",
    data_dir: str = "",
    count: int = 1000,
    attention: bool = False,
    top_k: int = 5,
    max_pixels: int = 50_000_000,
    jit_compile: bool = False,
    max_drop: float = 0.01,
    allow_drop: bool = False,
) -> dict[str, Any]:
    """Writes a SavedModel for TF Serving, see `export.saved_model.signatures`.

    Args:
        model: the model, or the path of its .keras file.
        folder: the folder to write, `saved_model/1` for instance; an earlier SavedModel there is
            replaced.
        merge_tokens: patches that every block merges into others, for speed; 0 for none.
        data: images to verify on: a dataset or folder as for `python -m training fit --data`, or
            (uint8 images (count, height, width, channels), labels (count,)); by default those that
            the model was trained on, if it is a path in a run folder.
        data_dir: folder of the files of TFDS or fashion_mnist.
        count: images to evaluate on, at most.
        attention: whether to return how much each patch counted, too.
        top_k: number of labels to return.
        max_pixels: size of the largest image to decode, pixels.
        jit_compile: whether to compile with XLA, if that is measured to be faster.
        max_drop: accuracy that the artefact may lose against the Keras model, a fraction.
        allow_drop: whether to write an artefact that loses more.

    Returns:
        {"format", "quantization", "bytes", "accuracy", ...}, see `export.export.publish`.

    Raises:
        InputError: when the artefact is not good enough or cannot be written; nothing is changed.
    """
    return _export(
        model,
        "savedmodel",
        folder,
        {
            "attention": attention,
            "top_k": top_k,
            "max_pixels": max_pixels,
            "jit_compile": jit_compile,
            "max_drop": max_drop,
            "allow_drop": allow_drop,
        },
        merge_tokens=merge_tokens,
        data=data,
        data_dir=data_dir,
        count=count,
    )


def to_tflite(
    model: keras.Model | str | pathlib.Path,
    path: str | pathlib.Path,
    quantization: str = "float32",
    *,
    merge_tokens: int = 0,
    data: str | tuple[np.ndarray, np.ndarray] = "",
    data_dir: str = "",
    count: int = 1000,
    attention: bool = False,
    preprocess: str = "in-graph",
    batch: int | None = None,
    max_drop: float = 0.01,
    allow_drop: bool = False,
    author: str = "",
    license: str = "",
    version: str = "1",
) -> dict[str, Any]:
    """Writes a .tflite file, after it has answered like the Keras model in LiteRT.

    Args:
        model: the model, or the path of its .keras file.
        path: the file to write.
        quantization: "float32", "float16", "dynamic", "int8" or "int16x8".
        merge_tokens: patches that every block merges into others, for speed; 0 for none.
        data: images to verify on: a dataset or folder as for `python -m training fit --data`, or
            (uint8 images (count, height, width, channels), labels (count,)); by default those that
            the model was trained on, if it is a path in a run folder.
        data_dir: folder of the files of TFDS or fashion_mnist.
        count: images to evaluate on, at most.
        attention: whether to return how much each patch counted, too.
        preprocess: "in-graph" for an input of uint8 pixels, 0 to 255; "none" for an input of
            float32 images that the caller normalises.
        batch: images per call; None for one.
        max_drop: accuracy that the artefact may lose against the Keras model, a fraction.
        allow_drop: whether to write an artefact that loses more.
        author: of the model, for the metadata.
        license: of the model's weights, for the metadata.
        version: of the model, for the metadata.

    Returns:
        {"format", "quantization", "bytes", "accuracy", ...}, see `export.export.publish`.

    Raises:
        InputError: when the artefact is not good enough or cannot be written; nothing is changed.
    """
    return _export(
        model,
        "tflite",
        path,
        {
            "attention": attention,
            "preprocess": preprocess,
            "batch": batch,
            "max_drop": max_drop,
            "allow_drop": allow_drop,
            "author": author,
            "license": license,
            "version": version,
        },
        quantization=quantization,
        merge_tokens=merge_tokens,
        data=data,
        data_dir=data_dir,
        count=count,
    )


def to_onnx(
    model: keras.Model | str | pathlib.Path,
    path: str | pathlib.Path,
    quantization: str = "float32",
    *,
    merge_tokens: int = 0,
    data: str | tuple[np.ndarray, np.ndarray] = "",
    data_dir: str = "",
    count: int = 1000,
    attention: bool = False,
    preprocess: str = "in-graph",
    batch: int | None = None,
    max_drop: float = 0.01,
    allow_drop: bool = False,
    author: str = "",
    license: str = "",
    version: str = "1",
) -> dict[str, Any]:
    """Writes a .onnx file, after it has answered like the Keras model in onnxruntime.

    Args:
        model: the model, or the path of its .keras file.
        path: the file to write.
        quantization: "float32", "float16", "dynamic" or "int8".
        merge_tokens: patches that every block merges into others, for speed; 0 for none.
        data: images to verify on: a dataset or folder as for `python -m training fit --data`, or
            (uint8 images (count, height, width, channels), labels (count,)); by default those that
            the model was trained on, if it is a path in a run folder.
        data_dir: folder of the files of TFDS or fashion_mnist.
        count: images to evaluate on, at most.
        attention: whether to return how much each patch counted, too.
        preprocess: "in-graph" for an input of uint8 pixels, 0 to 255; "none" for an input of
            float32 images that the caller normalises.
        batch: images per call; None for any number.
        max_drop: accuracy that the artefact may lose against the Keras model, a fraction.
        allow_drop: whether to write an artefact that loses more.
        author: of the model, for the metadata.
        license: of the model's weights, for the metadata.
        version: of the model, for the metadata.

    Returns:
        {"format", "quantization", "bytes", "accuracy", ...}, see `export.export.publish`.

    Raises:
        InputError: when the artefact is not good enough or cannot be written; nothing is changed.
    """
    return _export(
        model,
        "onnx",
        path,
        {
            "attention": attention,
            "preprocess": preprocess,
            "batch": batch,
            "max_drop": max_drop,
            "allow_drop": allow_drop,
            "author": author,
            "license": license,
            "version": version,
        },
        quantization=quantization,
        merge_tokens=merge_tokens,
        data=data,
        data_dir=data_dir,
        count=count,
    )


def to_web(
    model: keras.Model | str | pathlib.Path,
    folder: str | pathlib.Path,
    quantization: str = "float32",
    *,
    merge_tokens: int = 0,
    data: str | tuple[np.ndarray, np.ndarray] = "",
    data_dir: str = "",
    count: int = 1000,
    attention: bool = False,
    max_drop: float = 0.01,
    allow_drop: bool = False,
    author: str = "",
    license: str = "",
    version: str = "1",
) -> dict[str, Any]:
    """Writes a static page that classifies pictures in a browser, see `export.web.writer`.

    Args:
        model: the model, or the path of its .keras file.
        folder: the folder to write; an earlier page there is replaced when the new one is complete.
        quantization: "float32", "float16" or "dynamic".
        merge_tokens: patches that every block merges into others, for speed; 0 for none.
        data: images to verify on: a dataset or folder as for `python -m training fit --data`, or
            (uint8 images (count, height, width, channels), labels (count,)); by default those that
            the model was trained on, if it is a path in a run folder.
        data_dir: folder of the files of TFDS or fashion_mnist.
        count: images to evaluate on, at most.
        attention: whether to return how much each patch counted, too.
        max_drop: accuracy that the artefact may lose against the Keras model, a fraction.
        allow_drop: whether to write an artefact that loses more.
        author: of the model, for the metadata.
        license: of the model's weights, for the metadata.
        version: of the model, for the metadata.

    Returns:
        as `to_tflite`, for the .tflite file in the page, which is verified in LiteRT's interpreter.

    Raises:
        InputError: when the artefact is not good enough or cannot be written; nothing is changed.
    """
    return _export(
        model,
        "web",
        folder,
        {
            "attention": attention,
            "max_drop": max_drop,
            "allow_drop": allow_drop,
            "author": author,
            "license": license,
            "version": version,
        },
        quantization=quantization,
        merge_tokens=merge_tokens,
        data=data,
        data_dir=data_dir,
        count=count,
    )


def _export(
    model: keras.Model | str | pathlib.Path,
    name: str,
    target: str | pathlib.Path,
    options: dict[str, Any],
    **arguments: Any,
) -> dict[str, Any]:
    """Calls `export_artefact`; imported late, because TensorFlow takes seconds."""
    from export.export import export_artefact
    from export.options import Options

    return export_artefact(model, name, target, Options(**options), **arguments)
