"""Model -> the text files that travel with its artefacts, and TFLite's own metadata."""

import pathlib
import zipfile

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.labels import class_labels, metadata_files
from export.tflite.flatbuffer import add_buffer
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


def attach_metadata(path, model, author="", license="", version="1"):
    """Puts into a .tflite file what the task libraries of Android and MediaPipe read from it.

    That is TFLite's model metadata, a flatbuffer in the buffer TFLITE_METADATA, and the files
    of `metadata_files`, in a zip archive at the end: `unzip -p model.tflite labels.txt`. An
    input of float32 gets the mean and std of its pixels (0..255), by which the libraries
    normalise; uint8 needs none. MediaPipe refuses grey models, and a mean or std that differs
    between the channels of a float32 input; attention is to it another head, a class a patch. The
    same arguments give the same bytes.

    Args:
        path: a .tflite file without metadata; it is replaced.
        model: the ViT that it was made from.
        author, license: in words; of the model's weights.
        version: of the model, in words.
    """
    path = pathlib.Path(path)
    content = path.read_bytes()
    metadata = metadata_bytes(
        Table(
            "ModelMetadata",
            name=model.name,
            description="; ".join(filter(None, (model.description, _architecture(model.config)))),
            version=version,
            author=author,
            license=license,
            subgraph_metadata=[_tensors(model, content)],
            min_parser_version=MIN_PARSER_VERSION,
        )
    )
    path.write_bytes(add_buffer(content, NAME_IN_MODEL, metadata))
    with zipfile.ZipFile(path, "a") as attached:  # uncompressed: they are read in place
        for name, text in metadata_files(model, class_labels(model)).items():
            entry = zipfile.ZipInfo(name)  # dated 1980, always
            entry.external_attr = 0o644 << 16  # a file's permissions, for unzip
            attached.writestr(entry, text)


def _takes_floats(model):
    """Whether the first input of a .tflite file is float32"""
    graph = schema.Model.GetRootAs(model).Subgraphs(0)
    return graph.Tensors(graph.Inputs(0)).Type() == schema.TensorType.FLOAT32


def _output_names(model):
    """The names of a .tflite file's outputs in its signature, in the order of the graph's"""
    content = schema.ModelT.InitFromPackedBuf(model)
    (signature,) = content.signatureDefs
    names = {output.tensorIndex: output.name.decode() for output in signature.outputs}
    return [names[index] for index in content.subgraphs[0].outputs]


def _architecture(config):
    height, width = config.image_size
    return (
        f"Vision Transformer for {height}x{width} pixels: patches of {config.patch_size}, "
        f"width {config.width}, {config.depth} blocks, {config.block.heads} heads, "
        f"{config.num_classes} classes"
    )


def _tensors(model, content):
    outputs = {
        "probabilities": Table(
            "TensorMetadata",
            name="probabilities",
            description="of each class; they sum to 1",
            stats=Table("Stats", max=[1.0], min=[0.0]),
            associated_files=[
                Table(
                    "AssociatedFile",
                    name="labels.txt",
                    description="the classes, one a line, in the order of the probabilities",
                    type=TENSOR_AXIS_LABELS,
                )
            ],
        ),
        "attention": Table(
            "TensorMetadata",
            name="attention",
            description="how much each patch counted, in rows and columns; they sum to 1",
            stats=Table("Stats", max=[1.0], min=[0.0]),
        ),
    }
    return Table(
        "SubGraphMetadata",
        input_tensor_metadata=[_images(model.preprocessing, _takes_floats(content))],
        output_tensor_metadata=[outputs[name] for name in _output_names(content)],
    )


def _images(preprocessing, floats):
    """Preprocessing -> the input's TensorMetadata, with a normalisation if it takes floats"""
    height, width = preprocessing.image_size
    fields = {}
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
