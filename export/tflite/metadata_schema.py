"""Nested tables -> the bytes of a TFLite Model Metadata flatbuffer.

The tables, and the numbers of their fields, are those of TFLite Support's metadata_schema.fbs
(1.5.0; MediaPipe has the same file), as far as an image classifier needs them. No package that
installs beside TensorFlow has a module generated from it.
"""

import flatbuffers
import numpy as np
from flatbuffers import number_types

FILE_IDENTIFIER = b"M001"
NAME_IN_MODEL = "TFLITE_METADATA"
MIN_PARSER_VERSION = "1.0.0"  # all fields below were in the first version of the schema

# Enumerations and unions
TENSOR_AXIS_LABELS = 2  # AssociatedFileType
RGB, GRAYSCALE = 1, 2  # ColorSpaceType
IMAGE_PROPERTIES = 2  # ContentProperties
NORMALIZATION_OPTIONS = 1  # ProcessUnitOptions

# Each table's fields in the order of their numbers; a union takes two, the first for its type.
FIELDS = {
    "AssociatedFile": "name description type",
    "ImageSize": "width height",
    "ImageProperties": "color_space default_size",
    "Content": "content_properties_type content_properties",
    "NormalizationOptions": "mean std",
    "ProcessUnit": "options_type options",
    "Stats": "max min",
    "TensorMetadata": (
        "name description dimension_names content process_units stats associated_files"
    ),
    "SubGraphMetadata": "name description input_tensor_metadata output_tensor_metadata",
    "ModelMetadata": (
        "name description version subgraph_metadata author license associated_files "
        "min_parser_version"
    ),
}
UINT32 = {"width", "height"}  # all other whole numbers are bytes


class Table:
    """A table of FIELDS.

    Attributes:
        slots: number of a field -> (its name, its value): a text, a whole number, a Table, or a
            list of Tables or of floats.
    """

    def __init__(self, name, /, **fields):
        numbers = FIELDS[name].split()
        self.slots = {numbers.index(field): (field, value) for field, value in fields.items()}


def metadata_bytes(table):
    """Table -> bytes, the same for the same table"""
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, table), FILE_IDENTIFIER)
    return bytes(builder.Output())


def _write_offsets(builder, offsets):
    """Writes a vector of offsets and returns its own."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _write(builder, value):
    """Writes a text, a list or a Table, after all that it refers to, and returns its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, Table):
        return _write_table(builder, value.slots)
    if isinstance(value[0], Table):
        return _write_offsets(builder, [_write(builder, item) for item in value])
    return builder.CreateNumpyVector(np.array(value, "float32"))


def _write_table(builder, slots):
    offsets = {
        slot: _write(builder, value)
        for slot, (_, value) in slots.items()
        if not isinstance(value, int)
    }
    builder.StartObject(max(slots) + 1)
    for slot, (field, value) in slots.items():
        if slot in offsets:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
        else:
            kind = number_types.Uint32Flags if field in UINT32 else number_types.Uint8Flags
            builder.PrependSlot(kind, slot, value, 0)
    return builder.EndObject()
