"""Buffers and metadata that are added to the bytes of a .tflite file."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.tflite.flatbuffer import add_buffer
from export.tflite.metadata import attach_metadata


def test_adding_a_buffer_changes_nothing_else(exported):
    content = (exported / "out" / "model.tflite").read_bytes()

    added = add_buffer(content, "more", b"12345")

    assert schema.Model.ModelBufferHasIdentifier(added, 0)
    assert not (buffer_offsets(added) % 16).any()
    old, new = schema.ModelT.InitFromPackedBuf(content), schema.ModelT.InitFromPackedBuf(added)
    assert new.buffers.pop().data.tobytes() == b"12345"
    assert new.metadata.pop().name == b"more"
    assert pack(new) == pack(old)


def test_external_buffers_are_moved_into_the_flatbuffer(exported):
    # The quantizer appends the data of large files and stores their offsets in the buffers.
    model = schema.ModelT.InitFromPackedBuf((exported / "out" / "model.tflite").read_bytes())
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    offset, data = 2**20, bytes(largest.data)
    largest.data, largest.offset, largest.size = None, offset, len(data)
    content = pack(model)
    content += bytes(offset - len(content)) + data

    added = schema.ModelT.InitFromPackedBuf(add_buffer(content, "more", b"12345"))

    assert not any(buffer.offset for buffer in added.buffers)
    assert data in {buffer.data.tobytes() for buffer in added.buffers if buffer.data is not None}


def test_metadata_is_deterministic(exported, exported_model, tmp_path):
    bare = schema.ModelT.InitFromPackedBuf((exported / "out" / "model.tflite").read_bytes())
    bare.metadata.pop()
    author = {"author": "A. Nobody", "license": "MIT", "version": "2"}
    for name in ("a.tflite", "b.tflite"):
        (tmp_path / name).write_bytes(pack(bare))
        attach_metadata(tmp_path / name, exported_model, **author)
    content = (tmp_path / "a.tflite").read_bytes()

    assert content == (tmp_path / "b.tflite").read_bytes()
    for text in (b"A. Nobody", b"MIT", b"random weights; Vision Transformer for 16x24 pixels"):
        assert text in content


def buffer_offsets(content):
    """Offsets in a .tflite file at which the data of its buffers begin."""
    model = schema.Model.GetRootAs(content)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    tables = [buffer._tab for buffer in buffers if buffer.DataLength()]
    return np.array([table.Vector(table.Offset(4)) for table in tables])


def pack(model):
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
