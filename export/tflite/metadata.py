"""Model -> TFLite's model metadata, and the text files attached to a .tflite file."""

import pathlib
import zipfile
from typing import Any

import keras
import numpy as np

from export.endpoints import endpoints_of
from export.endpoints.pixels import input_preprocessing
from export.labels import metadata_files
from export.options import Options
from export.tflite.flatbuffer import add_buffer, output_names, takes_floats, unpack
from export.tflite.metadata_schema import (
    GRAYSCALE,
    IMAGE_PROPERTIES,
    MIN_PARSER_VERSION,
    NAME_IN_MODEL,
    NORMALIZATION_OPTIONS,
    RGB,
    TENSOR_AXIS_LABELS,
    Table,
    metadata_bytes,
)

LABELS = Table(
    "AssociatedFile",
    name="labels.txt",
    description="the classes, one a line, in the order of the probabilities",
    type=TENSOR_AXIS_LABELS,
)


def attach_metadata(model: keras.Model, path: str | pathlib.Path, options: Options) -> None:
    """Adds to a .tflite file what the task libraries of Android and MediaPipe read from it.

    That is TFLite's model metadata, a flatbuffer in the buffer TFLITE_METADATA, and the files
    of `metadata_files`, in a zip archive at the end: `unzip -p model.tflite labels.txt`. An
    input of float32 gets the mean and std of its pixels (0..255), by which the libraries
    normalise; uint8 needs none. MediaPipe refuses grey models, and a mean or std that differs
    between the channels of a float32 input; it takes attention for another head with one class per
    patch. The same arguments give the same bytes.

    Args:
        model: the model that the file was made from.
        path: a .tflite file without metadata; it is replaced.
        options: Options; preprocess, attention, author, license and version are used.
    """
    path = pathlib.Path(path)
    content = path.read_bytes()
    summary = endpoints_of(model).summary(model)
    metadata = metadata_bytes(
        Table(
            "ModelMetadata",
            name=model.name,
            description="; ".join(filter(None, (model.description, summary))),
            version=options.version,
            author=options.author,
            license=options.license,
            subgraph_metadata=[_tensors(model, content, options)],
            min_parser_version=MIN_PARSER_VERSION,
        )
    )
    path.write_bytes(add_buffer(content, NAME_IN_MODEL, metadata))
    with zipfile.ZipFile(path, "a") as archive:  # uncompressed: readers map the files into memory
        for name, text in metadata_files(model).items():
            entry = zipfile.ZipInfo(name)  # its date is always 1980
            entry.external_attr = 0o644 << 16  # a file's permissions, for unzip
            archive.writestr(entry, text)


def _tensors(model: keras.Model, content: bytes, options: Options) -> Table:
    """The SubGraphMetadata of a .tflite file: its input and its outputs."""
    endpoints, tables = endpoints_of(model), unpack(content)
    files = [LABELS] if endpoints.labels(model) else []
    answer = _output(endpoints.output, endpoints.description, endpoints.bounds, files)
    extras = {
        extra.output: _output(extra.output, extra.description, extra.bounds)
        for extra in endpoints.extras(model, options)
    }
    outputs = {endpoints.output: answer, **extras}
    return Table(
        "SubGraphMetadata",
        input_tensor_metadata=[_images(input_preprocessing(model, options), takes_floats(tables))],
        output_tensor_metadata=[outputs[name] for name in output_names(tables)],
    )


def _output(
    name: str,
    description: str,
    bounds: tuple[float, float] | None,
    files: list[Table] | None = None,
) -> Table:
    """The TensorMetadata of an output, with the files that name its values."""
    fields: dict[str, Any] = {}
    if bounds:
        fields["stats"] = Table("Stats", max=[bounds[1]], min=[bounds[0]])
    if files:
        fields["associated_files"] = files
    return Table("TensorMetadata", name=name, description=description, **fields)


def _images(preprocessing, floats):
    """The input's TensorMetadata, with a normalisation if it takes floats."""
    height, width = preprocessing.image_size
    fields: dict[str, Any] = {}
    low, high = [0.0], [255.0]
    if floats:
        mean, std = (np.multiply(255, value) for value in (preprocessing.mean, preprocessing.std))
        low, high = (0 - mean) / std, (255 - mean) / std
        options = Table("NormalizationOptions", mean=mean, std=std)
        fields["process_units"] = [
            Table("ProcessUnit", options_type=NORMALIZATION_OPTIONS, options=options)
        ]
    return Table(
        "TensorMetadata",
        name="images",
        description=f"one image of {height}x{width} pixels, cropped and resized by the rule in "
        "preprocessing.json",
        content=Table(
            "Content",
            content_properties_type=IMAGE_PROPERTIES,
            content_properties=Table(
                "ImageProperties",
                color_space=RGB if preprocessing.channels == 3 else GRAYSCALE,
                default_size=Table("ImageSize", width=width, height=height),
            ),
        ),
        stats=Table("Stats", max=high, min=low),
        **fields,
    )
