"""A .mlpackage -> the operations of its program, and whether its interface is the model's."""

import collections
import pathlib
from typing import Any

import keras

from export.checks.verify import RefusedError
from export.coreml.convert import COLOURS, INPUT, LABEL, import_coremltools
from export.endpoints import endpoints_of
from export.labels import class_labels
from export.options import Options
from export.quiet import quiet


def count_operations(path: pathlib.Path) -> dict[str, int]:
    """{name: count} of the operations in a program but for constants, the most frequent first."""
    counts = collections.Counter(operation.type for operation in _operations(read_spec(path)))
    del counts["const"]
    return dict(counts.most_common())


def read_spec(path: pathlib.Path) -> Any:
    """The specification of a .mlpackage, a protocol buffer of Core ML."""
    coremltools = import_coremltools()
    with quiet():
        return coremltools.models.MLModel(str(path), skip_model_load=True).get_spec()


def check_interface(model: keras.Model, path: pathlib.Path, options: Options) -> None:
    """Checks the image, the outputs and the classes that a program declares.

    Args:
        model: the model that it was made from.
        path: of the .mlpackage.
        options: Options; attention is used.

    Raises:
        RefusedError: when they are not those of the model.
    """
    endpoints, rule, labels = endpoints_of(model), model.preprocessing, class_labels(model)
    outputs = {endpoints.output, *(extra.output for extra in endpoints.extras(model, options))}
    image = (*rule.image_size, COLOURS[rule.channels])
    expected = {
        "input": (INPUT, *image),
        "outputs": sorted(outputs | {LABEL} if labels else outputs),
        "classes": list(labels),
    }
    declared = _interface(read_spec(path))
    for part, value in expected.items():
        if declared[part] != value:
            raise RefusedError(
                f"the Core ML program has {part} {declared[part]}; the model's are {value}."
            )


def _interface(spec):
    """What a program declares, as `check_interface` expects it."""
    (image,) = spec.description.input
    size = image.type.imageType
    colour = size.ColorSpace.Name(size.colorSpace)
    classes = [
        value.immediateValue.tensor.strings.values[0]
        for operation in _operations(spec)
        if operation.type == "classify"
        for value in operation.inputs["classes"].arguments[0].value.immediateValue.list.values
    ]
    return {
        "input": (image.name, size.height, size.width, colour),
        "outputs": sorted(output.name for output in spec.description.output),
        "classes": classes,
    }


def _operations(spec):
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations
