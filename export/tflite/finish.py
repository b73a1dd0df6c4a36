"""A .tflite file of any kind -> the file that users get: names, versions, metadata, labels."""

import pathlib

import keras
from ai_edge_litert import schema_py_generated as schema

from export.endpoints import endpoints_of
from export.options import Options
from export.tflite.flatbuffer import pack, read_model
from export.tflite.metadata import attach_metadata
from export.tflite.signatures import split_signatures
from export.tflite.versions import set_versions


def finish(model: keras.Model, path: str | pathlib.Path, options: Options) -> None:
    """Finishes a file in place; the same arguments give the same bytes.

    Args:
        model: the model that the file was made from.
        path: a .tflite file without metadata.
        options: Options; embed is used, and those of `attach_metadata`.

    Raises:
        InputError: for an operation of which it is not known which runtimes compute it.
    """
    tables, endpoints = read_model(path), endpoints_of(model)
    extras = endpoints.saved_model_extras(model, options) if options.embed else []
    _set_codes(tables)
    split_signatures(
        tables, endpoints.signature, {extra.output: extra.signature for extra in extras}
    )
    _name_tensors(tables)
    set_versions(tables)
    pathlib.Path(path).write_bytes(pack(tables))
    attach_metadata(model, path, options)


def _set_codes(model: schema.ModelT) -> None:
    """Stores the operations' numbers in both of their fields, as the schema asks for.

    Old runtimes and OpenVINO read only the old field, which the quantiser leaves at 0, an addition.
    """
    for code in model.operatorCodes:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)


def _name_tensors(model: schema.ModelT) -> None:
    """Names the inputs and outputs of graphs as in their signatures."""
    for signature in model.signatureDefs:
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        for entry in (*signature.inputs, *signature.outputs):
            tensors[entry.tensorIndex].name = entry.name
