"""An artefact + images -> answers, time and memory, by its own runtime, without this project.

It runs as a script: a pickled task comes in on standard input, the results go out on standard
output.
"""

import importlib
import pathlib
import pickle
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

EMBED = "embed"  # the signature of features, besides that of the answer
BATCH_SIZE = 32  # for artefacts that take any number of images

# What a runtime loads: a function that runs once and returns the number of images it ran, and one
# that returns all answers, [(key of Samples.expected, array), ...].
Loaded = tuple[Callable[[], int], Callable[[], list[tuple[str, np.ndarray]]]]


def main() -> None:
    """Reads the task, runs it, and writes its results.

    These are the answers, milliseconds per image, milliseconds to load the artefact and to run it
    once, and MB.
    """
    task = pickle.load(sys.stdin.buffer)
    runs = task.pop("runs")
    module, load = RUNTIMES[task.pop("runtime")]
    importlib.import_module(module)  # first, so that the runtime's own memory is not counted
    before = _peak_memory()
    start = time.perf_counter()
    once, answer = load(**task)
    count = once()
    cold_start = 1000 * (time.perf_counter() - start)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    milliseconds = 1000 * statistics.median(seconds) / count
    memory = _peak_memory() - before
    pickle.dump((answer(), milliseconds, cold_start, memory), sys.stdout.buffer)


def load_tflite(
    path: str,
    threads: int,
    files: list[bytes],
    pixels: np.ndarray,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Loaded:
    """Loads a .tflite file in LiteRT's interpreter.

    Args:
        path: of the artefact.
        threads: number of threads.
        files: the bytes of image files; not used.
        pixels: uint8 (count, height, width, channels), images of the model's size.
        mean: of each channel, by which images are normalised, fractions of 255.
        std: of each channel, likewise.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    (images,) = next(feeds(interpreter, pixels[:1], mean, std)).values()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)

    def once():
        interpreter.invoke()
        return interpreter.get_input_details()[0]["shape"][0]

    def answer():
        answers = [
            ask_tflite(interpreter, pixels, mean, std, signature)
            for signature in interpreter.get_signature_list()
        ]
        return [pair for outputs in answers for pair in _of_pixels(outputs)]

    return once, answer


def ask_tflite(
    interpreter: Any,
    pixels: np.ndarray,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    signature: str = "",
) -> dict[str, np.ndarray]:
    """Runs a .tflite file on images.

    Args:
        interpreter: LiteRT's, of a file that takes uint8, or float32 images, normalised.
        pixels: uint8 (count, height, width, channels).
        mean: of each channel, by which images are normalised, fractions of 255.
        std: of each channel, likewise.
        signature: its name; "" for the first one of the file.

    Returns:
        {output: array (count, ...)}, float32 also where the file returns integers.
    """
    runner = interpreter.get_signature_runner(signature or first_signature(interpreter))
    answers = [runner(**inputs) for inputs in feeds(interpreter, pixels, mean, std)]
    details = runner.get_output_details()
    return {
        name: in_floats(array, *details[name]["quantization"])
        for name, array in _concatenate(answers, len(pixels)).items()
    }


def first_signature(interpreter: Any) -> str:
    """The name of a file's answer: its only signature, or the one that is not `embed`."""
    return next(name for name in interpreter.get_signature_list() if name != EMBED)


def in_floats(array: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """The numbers that integers stand for; a scale of 0 is that of floats."""
    return (array.astype("float32") - zero_point) * np.float32(scale) if scale else array


def feeds(
    interpreter: Any,
    pixels: np.ndarray,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields images as {name of the input: a batch as the file takes it}; zeros pad the last."""
    runner = interpreter.get_signature_runner(first_signature(interpreter))
    ((name, details),) = runner.get_input_details().items()
    for batch in _batches(pixels, details["shape"][0]):
        floats = details["dtype"] == np.float32
        yield {name: _normalise(batch, mean, std) if floats else batch}


def load_onnx(
    path: str,
    threads: int,
    files: list[bytes],
    pixels: np.ndarray,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Loaded:
    """Loads a .onnx file in onnxruntime, on the processor; arguments as in `load_tflite`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    first = next(onnx_feeds(session, pixels, mean, std, 1))

    def once():
        session.run(None, first)
        return len(*first.values())

    def answer():
        batches = onnx_feeds(session, pixels, mean, std)
        answers = [dict(zip(names, session.run(None, batch), strict=True)) for batch in batches]
        return _of_pixels(_concatenate(answers, len(pixels)))

    return once, answer


def onnx_feeds(
    session: Any,
    pixels: np.ndarray,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    size: int = BATCH_SIZE,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields images as a .onnx file takes them: {name of the input: a batch}; zeros pad the last.

    Args:
        session: onnxruntime's, of a file that takes uint8, or float32 images, normalised.
        pixels: uint8 (count, height, width, channels).
        mean: of each channel, by which images are normalised, fractions of 255.
        std: of each channel, likewise.
        size: images of a batch, where the file takes any number.
    """
    (details,) = session.get_inputs()
    fixed = isinstance(details.shape[0], int)
    for batch in _batches(pixels, details.shape[0] if fixed else size):
        floats = details.type == "tensor(float)"
        yield {details.name: _normalise(batch, mean, std) if floats else batch}


def load_saved_model(
    path: str,
    threads: int,
    files: list[bytes],
    pixels: np.ndarray,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Loaded:
    """Loads a SavedModel in TensorFlow; arguments as in `load_tflite`.

    The time is that of one file's bytes; the answers are those of every signature.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    signatures = tf.saved_model.load(path).signatures

    def once():
        signatures["serving_default"](image_bytes=tf.constant(files[:1]))
        return 1

    def answer():
        inputs = _saved_model_inputs(files, pixels, mean, std)
        answers = []
        for signature in signatures.values():
            ((key, spec),) = signature.structured_input_signature[1].items()
            images, batches = inputs[key, spec.dtype.name]
            outputs = [signature(**{key: batch}) for batch in batches]
            for name, tensor in outputs[0].items():
                if tensor.dtype == tf.float32:
                    arrays = np.concatenate([output[name].numpy() for output in outputs])
                    count = len(files) if images == "files" else len(pixels)
                    answers.append((f"{name} of {images}", arrays[:count]))
        return answers

    return once, answer


def _saved_model_inputs(files, pixels, mean, std):
    """{(argument, its type): (which images, their batches)} for every kind of signature."""
    import tensorflow as tf

    normalised = [_normalise(batch, mean, std) for batch in _batches(pixels, BATCH_SIZE)]
    return {
        ("image_bytes", "string"): ("files", [tf.constant(files)]),
        ("examples", "string"): ("files", [tf.constant([as_example(file) for file in files])]),
        ("images", "uint8"): ("files", [tf.io.decode_png(file)[tf.newaxis] for file in files]),
        ("images", "float32"): ("pixels", [tf.constant(batch) for batch in normalised]),
    }


def as_example(file: bytes) -> bytes:
    """The bytes of an image file -> the bytes of a tf.Example that holds it."""
    import tensorflow as tf

    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file]))
    features = tf.train.Features(feature={"image/encoded": feature})
    return tf.train.Example(features=features).SerializeToString()


RUNTIMES: dict[str, tuple[str, Callable[..., Loaded]]] = {
    "tflite": ("ai_edge_litert.interpreter", load_tflite),
    "onnx": ("onnxruntime", load_onnx),
    "savedmodel": ("tensorflow", load_saved_model),
}


def _batches(pixels, size):
    """Batches of that size; zeros pad the last."""
    for start in range(0, len(pixels), size):
        images = pixels[start : start + size]
        yield np.pad(images, [(0, size - len(images)), (0, 0), (0, 0), (0, 0)])


def _normalise(images, mean, std):
    return ((images / 255 - mean) / std).astype("float32")


def _concatenate(answers, count):
    """[{output: of a batch}, ...] -> {output: of all images}."""
    return {name: np.concatenate([each[name] for each in answers])[:count] for name in answers[0]}


def _of_pixels(outputs):
    """Answers to pixels under the names of `Samples.expected`."""
    return [(f"{name} of pixels", array) for name, array in outputs.items()]


def _peak_memory():
    """The most memory this process has had so far, MB; from Linux's /proc."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) * 1024 / 1e6


if __name__ == "__main__":
    main()
