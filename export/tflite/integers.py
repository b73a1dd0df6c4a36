"""A float32 .tflite + images -> the same model in integers: int8, int8-full, int16x8."""

import dataclasses
import itertools
import pathlib
from typing import Any

from export.checks.verify import RefusedError
from export.images import Images
from export.source import Source
from export.tflite.flatbuffer import graph_operations
from export.tflite.integer_graph import remove_cast, sigmoid_gelu
from export.tflite.integer_search import IntegerSearch
from export.tflite.norms import multiply_deviations
from export.tflite.quantize import StaticQuantizer
from export.tflite.smooth_quant import smooth_channels
from export.tflite.statistics import Ranges, gather_statistics
from vit_keras.utils.files import temporary_folder

ENDS = ("pixels", "answer")  # parts before the first layer and after the last
PER_ROW = "TensorFlow Lite 2.17"  # the first with a scale per row of a fully connected layer
NOT_IN_16_BITS = ("layer norms",)  # their sums of squares need more than 16 bits


def _check_runtime(source: Source, kind: str, least: str) -> None:
    """Raises RefusedError where an older runtime than a kind's least has to run the file."""
    asked = source.options.least_runtime
    if asked:
        raise RefusedError(
            f"{kind} needs {least} or newer. Got --least-runtime {asked}; try float32, float16 or "
            f"dynamic."
        )


def write_int8(source: Source, path: pathlib.Path) -> dict[str, Any]:
    """Writes the file in int8, with as few parts in float as keep the accuracy.

    Pixels are normalised, and the last softmax computed, in float32.

    Args:
        source: the float32 file; max_drop of its options is used.
        path: the file to write.

    Returns:
        what `IntegerSearch.write` does.

    Raises:
        RefusedError: for least_runtime.
    """
    _check_runtime(source, "int8", PER_ROW)
    with temporary_folder() as folder:
        prepared = folder / "prepared"
        statistics = _prepare(source.path, prepared, source.images["calibration"])
        quantizer = StaticQuantizer(prepared, statistics, 8, in_float=ENDS)
        return IntegerSearch(source, quantizer, path).write()


def write_int16x8(source: Source, path: pathlib.Path) -> None:
    """Writes weights in 8 bits and activations in 16; layer norms stay in float32.

    With 16 bits the steps are small enough for the whole range of the calibration images.

    Args:
        source: the float32 file.
        path: the file to write.

    Raises:
        RefusedError: for least_runtime.
    """
    _check_runtime(source, "int16x8", "LiteRT 1.4")
    statistics = gather_statistics(source.path, source.images["calibration"])
    quantizer = StaticQuantizer(source.path, statistics, 16, in_float=(*ENDS, *NOT_IN_16_BITS))
    plan = dataclasses.replace(quantizer.plan("range"), weights="octav")
    quantizer.write(plan, path)


def write_int8_full(source: Source, path: pathlib.Path) -> dict[str, Any]:
    """Writes the file wholly in int8: uint8 pixels in, uint8 or int8 out, one partition.

    Args:
        source: the float32 file; output_type, gelu and preprocess of its options are used.
        path: the file to write.

    Returns:
        what `IntegerSearch.write_all` does.

    Raises:
        RefusedError: for a file with operations that have no integer form.
    """
    _check_runtime(source, "int8-full", PER_ROW)
    options = source.options
    if options.preprocess == "none":
        raise RefusedError("int8-full takes uint8 pixels; leave out --preprocess none.")
    with temporary_folder() as folder:
        prepared = folder / "prepared"
        start = source.path
        if options.gelu == "sigmoid":
            start = folder / "gelu"
            sigmoid_gelu(source.path, start)
        statistics = _prepare(start, prepared, source.images["calibration"])
        pixels = remove_cast(prepared, prepared)
        for ranges in statistics.values():
            ranges[pixels] = {"min": 0.0, "max": 255.0}
        ends = {"INPUT": "uint8", "OUTPUT": options.output_type}
        quantizer = StaticQuantizer(prepared, statistics, 8, ends=ends)
        _check_all_in_parts(prepared, quantizer)
        return IntegerSearch(source, quantizer, path).write_all()


def _check_all_in_parts(path: pathlib.Path, quantizer: StaticQuantizer) -> None:
    """Raises RefusedError for a file with operations that have to stay in float."""
    lists = [part.operations.values() for part in quantizer.parts]
    in_parts = set(itertools.chain(*itertools.chain(*lists)))
    others = {name for name, tensor in graph_operations(path) if tensor not in in_parts}
    if others:
        raise RefusedError(
            f"int8-full is not possible: the model's {', '.join(sorted(others))} have no good "
            f"integer form; int8 leaves them in float."
        )


def _prepare(source: pathlib.Path, path: pathlib.Path, images: Images) -> dict[str, Ranges]:
    """Writes the same function in the form that loses least in 8 bits; returns its statistics."""
    smooth_channels(source, path, images)
    multiply_deviations(path, path)
    return gather_statistics(path, images)
