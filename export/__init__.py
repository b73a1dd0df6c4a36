"""model.keras -> artefacts that run without this project, each verified in its own runtime.

One function for each format. What is in the artefact's place is replaced when the new one has been
verified. The keywords and their defaults are described in `export.options.Options`, and those that
it lacks in `export.keywords.Keywords`. All functions return {"format", "quantization", "bytes",
"accuracy", ...}, see `export.export.publish`, and raise InputError when the artefact is not good
enough or cannot be written; then nothing is changed.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from export.keywords import AboutKeywords, PixelKeywords, SavedModelKeywords, TFLiteKeywords

if TYPE_CHECKING:
    import keras


def to_saved_model(
    model: keras.Model | str | pathlib.Path,
    folder: str | pathlib.Path,
    **keywords: Unpack[SavedModelKeywords],
) -> dict[str, Any]:
    """Writes a SavedModel for TF Serving, see `export.saved_model.signatures`.

    Args:
        model: the model, or the path of its .keras file or run folder.
        folder: the folder to write, `saved_model/1` for instance.
        keywords: merge_tokens, data, data_dir, count, attention, max_drop, allow_drop, top_k,
            max_pixels, jit_compile.
    """
    return _export(model, "savedmodel", folder, keywords, SavedModelKeywords)


def to_tflite(
    model: keras.Model | str | pathlib.Path,
    path: str | pathlib.Path,
    quantization: str = "float32",
    **keywords: Unpack[TFLiteKeywords],
) -> dict[str, Any]:
    """Writes a .tflite file, after it has answered like the Keras model in LiteRT.

    Args:
        model: the model, or the path of its .keras file or run folder.
        path: the file to write.
        quantization: "float32", "float16", "dynamic", "int8", "int8-full" or "int16x8".
        keywords: merge_tokens, data, data_dir, count, attention, max_drop, allow_drop, author,
            license, version, preprocess, input_type, batch, embed, output_type, gelu,
            least_runtime.
    """
    return _export(model, "tflite", path, keywords, TFLiteKeywords, quantization)


def to_onnx(
    model: keras.Model | str | pathlib.Path,
    path: str | pathlib.Path,
    quantization: str = "float32",
    **keywords: Unpack[PixelKeywords],
) -> dict[str, Any]:
    """Writes a .onnx file, after it has answered like the Keras model in onnxruntime.

    Args:
        model: the model, or the path of its .keras file or run folder.
        path: the file to write.
        quantization: "float32", "float16", "dynamic" or "int8".
        keywords: merge_tokens, data, data_dir, count, attention, max_drop, allow_drop, author,
            license, version, preprocess, input_type, batch, embed.
    """
    return _export(model, "onnx", path, keywords, PixelKeywords, quantization)


def to_coreml(
    model: keras.Model | str | pathlib.Path,
    folder: str | pathlib.Path,
    quantization: str = "float32",
    **keywords: Unpack[AboutKeywords],
) -> dict[str, Any]:
    """Writes a Core ML package, which is checked and not run, see `export.coreml.convert`.

    Args:
        model: the model, or the path of its .keras file or run folder.
        folder: the folder to write, `model.mlpackage` for instance.
        quantization: "float32" or "float16".
        keywords: merge_tokens, data, data_dir, count, attention, max_drop, allow_drop, author,
            license, version.
    """
    return _export(model, "coreml", folder, keywords, AboutKeywords, quantization)


def to_web(
    model: keras.Model | str | pathlib.Path,
    folder: str | pathlib.Path,
    quantization: str = "float32",
    **keywords: Unpack[AboutKeywords],
) -> dict[str, Any]:
    """Writes a static page that classifies pictures in a browser, see `export.web.writer`.

    Its .tflite file is verified in LiteRT's interpreter.

    Args:
        model: the model, or the path of its .keras file or run folder.
        folder: the folder to write.
        quantization: "float32", "float16" or "dynamic".
        keywords: merge_tokens, data, data_dir, count, attention, max_drop, allow_drop, author,
            license, version.
    """
    return _export(model, "web", folder, keywords, AboutKeywords, quantization)


def _export(
    model: keras.Model | str | pathlib.Path,
    name: str,
    path: str | pathlib.Path,
    keywords: Mapping[str, Any],
    known: Any,
    quantization: str = "float32",
) -> dict[str, Any]:
    """Calls `export_artefact`; imported late, because TensorFlow takes seconds.

    Args:
        model: as above.
        name: a key of FORMATS.
        path: as above.
        keywords: what the caller gave.
        known: the TypedDict of what the format takes; Python does not check it.
        quantization: as above.
    """
    from export.export import export_artefact
    from export.options import Options
    from vit_keras.utils.errors import InputError, did_you_mean

    for keyword in keywords:
        if keyword not in known.__optional_keys__:
            near = did_you_mean(keyword, sorted(known.__optional_keys__))
            raise InputError(f"no option {keyword!r} of the format {name}{near}")
    fields = {field.name for field in dataclasses.fields(Options)}
    options = Options(**{key: value for key, value in keywords.items() if key in fields})
    rest = {key: value for key, value in keywords.items() if key not in fields}
    return export_artefact(model, name, path, options, quantization=quantization, **rest)
