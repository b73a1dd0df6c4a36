"""An artefact in its runtime -> probabilities, and how long they take.

A process holds one artefact: call `load`, then `take_turn`. Packages are imported where they are
used, as in benchmarks/artefacts.py. Unlike export/checks/run_standalone.py, which judges this
project's exports, it takes files of any project: one uint8 image in, its probabilities out.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

COMPARED = 8  # random images on which an artefact and its model are compared
WARM_UP = 3  # images
Classifier = Callable[[np.ndarray], np.ndarray]  # uint8 (1, rows, columns, channels) -> (classes,)


def litert(path: pathlib.Path, threads: int) -> Classifier:
    """Loads a .tflite file; returns a function from one image to its probabilities."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def classify(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])[0]

    return classify


def onnx_runtime(path: pathlib.Path, threads: int) -> Classifier:
    """Loads an .onnx file in onnxruntime; see `litert`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    return lambda image: session.run(None, {source.name: image})[0][0]


def openvino_cpu(path: pathlib.Path, threads: int) -> Classifier:
    """Loads an .onnx file in OpenVINO; see `litert`."""
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # bfloat16 is the default on some processors
    }
    model = openvino.compile_model(path, "CPU", options)
    return lambda image: model([image])[0][0]


def tensorflow(path: pathlib.Path, threads: int, xla: bool = False) -> Classifier:
    """Loads a SavedModel's `serve_logits`, with normalisation and softmax; see `litert`."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(path)

    @tf.function(jit_compile=xla)
    def classify(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32) / 127.5 - 1
        return tf.nn.softmax(loaded.signatures["serve_logits"](images=images)["logits"])

    return lambda image: classify(tf.constant(image)).numpy()[0]


RUNTIMES: dict[str, Callable[[pathlib.Path, int], Classifier]] = {
    "LiteRT": litert,
    "onnxruntime": onnx_runtime,
    "OpenVINO": openvino_cpu,
    "TensorFlow": tensorflow,
    "TensorFlow with XLA": functools.partial(tensorflow, xla=True),
}


_loaded: dict[str, Any] = {}  # the artefact of this process: "classify", and "image" for it


def load(
    runtime: str, path: pathlib.Path, threads: int, shape: tuple[int, ...], logits: np.ndarray
) -> float:
    """Loads an artefact into this process and warms it up.

    Args:
        runtime: a key of RUNTIMES.
        path: of the artefact.
        threads: of the runtime.
        shape: of an image, (height, width, channels).
        logits: (COMPARED, classes), what the Keras model answers to `random_pixels`.

    Returns:
        the largest difference of a log-probability from the model's.
    """
    classify = RUNTIMES[runtime](path, threads)
    pixels = random_pixels(COMPARED, shape)
    log_probabilities = np.log([classify(image[np.newaxis]) for image in pixels])
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    _loaded.update(classify=classify, image=pixels[:1])
    take_turn(WARM_UP)
    return float(np.abs(log_probabilities - expected).max())


def take_turn(runs: int) -> np.ndarray:
    """Classifies an image `runs` times; returns median milliseconds (2,): wall clock, CPU time."""
    times = []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        _loaded["classify"](_loaded["image"])
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return 1000 * np.median(times, axis=0)


def random_pixels(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns uint8 images (count, *shape), the same ones in every call."""
    return np.random.default_rng(1).integers(256, size=(count, *shape), dtype="uint8")
