"""An artefact in the runtime it is for -> probabilities, and how long they take.

A process holds one artefact: `load` and then `take_turn`. Packages are imported where they are
used, as in benchmarks/artefacts.py.
"""

import functools
import time

import numpy as np

COMPARED = 8  # random images on which an artefact and its model are compared
WARM_UP = 3  # images


def litert(path, threads):
    """-> function: uint8 (1, height, width, channels) -> probabilities (classes,)"""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def classify(image):
        interpreter.set_tensor(taken["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])[0]

    return classify


def onnx_runtime(path, threads):
    """As `litert`"""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    return lambda image: session.run(None, {taken.name: image})[0][0]


def openvino_cpu(path, threads):
    """As `litert`"""
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # some processors would get bfloat16
    }
    model = openvino.compile_model(path, "CPU", options)
    return lambda image: model([image])[0][0]


def tensorflow(path, threads, xla=False):
    """As `litert`: the signature `serve_logits` between a normalisation and a softmax"""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(path)

    @tf.function(jit_compile=xla)
    def classify(images):
        images = tf.cast(images, tf.float32) / 127.5 - 1
        return tf.nn.softmax(loaded.signatures["serve_logits"](images=images)["logits"])

    return lambda image: classify(tf.constant(image)).numpy()[0]


RUNTIMES = {
    "LiteRT": litert,
    "onnxruntime": onnx_runtime,
    "OpenVINO": openvino_cpu,
    "TensorFlow": tensorflow,
    "TensorFlow with XLA": functools.partial(tensorflow, xla=True),
}

_turn = {}  # what this process holds


def load(runtime, path, threads, shape, logits):
    """Loads an artefact -> the largest difference of a logarithmic probability from its model's."""
    classify = RUNTIMES[runtime](path, threads)
    pixels = random_pixels(COMPARED, shape)
    got = np.log([classify(image[np.newaxis]) for image in pixels])
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    _turn.update(classify=classify, image=pixels[:1])
    take_turn(WARM_UP)
    return float(np.abs(got - expected).max())


def take_turn(runs):
    """Classifies some images in a row -> median milliseconds (wall clock, CPU of the process)"""
    times = []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        _turn["classify"](_turn["image"])
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return 1000 * np.median(times, axis=0)


def random_pixels(count, shape):
    """uint8 (count, *shape), the same at every call."""
    return np.random.default_rng(1).integers(256, size=(count, *shape), dtype="uint8")
