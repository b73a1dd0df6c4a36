"""SmoothQuant: the same function, with activations of similar range in every channel."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from export.checks.run_standalone import ask_tflite
from export.tflite.flatbuffer import count_operations
from export.tflite.smooth_quant import smooth_channels

WIDTH = 48  # of the model


def test_smoothing_keeps_the_function_and_balances_the_channels(
    float32_file, noise_images, tmp_path
):
    path = tmp_path / "smoothed"

    smooth_channels(float32_file, path, noise_images["calibration"])

    before, after = (
        ask_tflite(Interpreter(str(file)), noise_images["search"].pixels)["probabilities"]
        for file in (float32_file, path)
    )
    np.testing.assert_allclose(after, before, atol=1e-5)
    file = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    (graph,) = file.subgraphs
    names = [tensor.name.decode() for tensor in graph.tensors]
    smoothed = [index for index, name in enumerate(names) if name.endswith("/smoothed")]
    # Both norms of block 0; the second of block 1: only a part of the output of its first is used.
    added = count_operations(path)["MUL"] - count_operations(float32_file)["MUL"]
    assert len(smoothed) == added == 3
    products = {i: next(op for op in graph.operators if i in op.outputs) for i in smoothed}
    inputs = [products[index].inputs[0] for index in smoothed]
    ranges = channel_ranges(path, noise_images["calibration"].pixels[:32], [*smoothed, *inputs])
    for index in smoothed:
        layer = next(op for op in graph.operators if index in op.inputs)
        kernel = file.buffers[graph.tensors[layer.inputs[1]].buffer].data.view("float32")
        columns = np.abs(kernel.reshape(-1, WIDTH)).max(axis=0)
        old, new = ranges[products[index].inputs[0]], ranges[index]
        # Section 4 of the paper: max |x| becomes (max |x| * max |w|) ^ (1 - a), here with a = 0.75.
        # The file holds w * factors.
        factors = old / new
        np.testing.assert_allclose(new, (old * columns / factors) ** 0.25, rtol=1e-4)


def channel_ranges(path, images, tensors):
    """{tensor: the largest absolute value of each channel over the images}"""
    interpreter = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    ranges = {tensor: np.zeros(WIDTH) for tensor in tensors}
    for pixels in images:
        ask_tflite(interpreter, pixels[np.newaxis])
        for tensor in tensors:
            values = np.abs(interpreter.get_tensor(tensor)).reshape(-1, WIDTH).max(axis=0)
            ranges[tensor] = np.maximum(ranges[tensor], values)
    return ranges
