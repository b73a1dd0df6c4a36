"""An artefact + images -> answers, time and memory, by its own runtime, without this project.

Run as a script of its own; pickles come in on standard input and go out on standard output.
"""

import importlib
import pathlib
import pickle
import re
import statistics
import sys
import time

import numpy as np

BATCH_SIZE = 32  # of what takes any number of images


def main():
    runtime, path, threads, *given, runs = pickle.load(sys.stdin.buffer)
    module, load = RUNTIMES[runtime]
    importlib.import_module(module)  # what that takes is not the artefact's
    before = _peak()
    once, answer = load(path, threads, *given)
    count = once()  # to warm up
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    milliseconds, memory = 1000 * statistics.median(seconds) / count, _peak() - before
    pickle.dump((answer(), milliseconds, memory), sys.stdout.buffer)


# Each runtime: (path, threads, image files, pixels, mean, std) -> a function that answers once and
# tells for how many images, and one that gives all answers, [(name, array), ...]: see `Samples`.


def load_tflite(path, threads, files, pixels, mean, std):
    """.tflite in LiteRT's interpreter"""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    ask_tflite(interpreter, pixels[:1], mean, std)  # the input is set from here on

    def once():
        interpreter.invoke()
        return interpreter.get_input_details()[0]["shape"][0]

    return once, lambda: _named(ask_tflite(interpreter, pixels, mean, std))


def ask_tflite(interpreter, pixels, mean=None, std=None):
    """{output: what a .tflite file says about each image}

    Args:
        interpreter: of a file that takes uint8, or float32 images, normalised.
        pixels: uint8 (count, height, width, channels).
        mean, std: by which images are normalised, for each channel, in fractions of 255.
    """
    runner = interpreter.get_signature_runner()
    answers = [runner(**feed) for feed in feeds(interpreter, pixels, mean, std)]
    return _together(answers, len(pixels))


def feeds(interpreter, pixels, mean=None, std=None):
    """The images as {name of the input: a batch of what the file takes}; zeros fill the last."""
    ((name, taken),) = interpreter.get_signature_runner().get_input_details().items()
    for batch in _batches(pixels, taken["shape"][0]):
        yield {name: _normalised(batch, mean, std) if taken["dtype"] == np.float32 else batch}


def load_onnx(path, threads, files, pixels, mean, std):
    """.onnx in onnxruntime, on the processor"""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    size = taken.shape[0] if isinstance(taken.shape[0], int) else None

    def ask(images):
        images = _normalised(images, mean, std) if taken.type == "tensor(float)" else images
        return dict(zip(names, session.run(None, {taken.name: images}), strict=True))

    def once():
        images = next(_batches(pixels, size or 1))
        ask(images)
        return len(images)

    def answer():
        asked = [ask(images) for images in _batches(pixels, size or BATCH_SIZE)]
        return _named(_together(asked, len(pixels)))

    return once, answer


def load_saved_model(path, threads, files, pixels, mean, std):
    """SavedModel by TensorFlow: every signature; the time is that of a file's bytes"""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    signatures = tf.saved_model.load(path).signatures

    def once():
        signatures["serving_default"](image_bytes=tf.constant(files[:1]))
        return 1

    def answer():
        examples = [as_example(file) for file in files]
        decoded = [tf.io.decode_png(file)[tf.newaxis] for file in files]
        normalised = [_normalised(batch, mean, std) for batch in _batches(pixels, BATCH_SIZE)]
        logits = [signatures["serve_logits"](images=tf.constant(x))["logits"] for x in normalised]
        by_bytes = signatures["serving_default"](image_bytes=tf.constant(files))
        by_example = signatures["serve_examples"](examples=tf.constant(examples))
        by_pixels = [signatures["serve_images"](images=x)["probabilities"] for x in decoded]
        embedded = signatures["embed"](image_bytes=tf.constant(files))["embedding"]
        answers = [
            ("files", by_bytes["probabilities"].numpy()),
            ("files", by_example["probabilities"].numpy()),
            ("files", np.concatenate(by_pixels)),
            ("logits", np.concatenate(logits)[: len(pixels)]),
            ("embeddings of files", embedded.numpy()),
        ]
        if "attention" in signatures:
            seen = signatures["attention"](image_bytes=tf.constant(files))["attention"]
            answers.append(("attention of files", seen.numpy()))
        return answers

    return once, answer


def as_example(file):
    """The bytes of an image file -> those of a tf.Example that holds it"""
    import tensorflow as tf

    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file]))
    features = tf.train.Features(feature={"image/encoded": feature})
    return tf.train.Example(features=features).SerializeToString()


RUNTIMES = {
    "tflite": ("ai_edge_litert.interpreter", load_tflite),
    "onnx": ("onnxruntime", load_onnx),
    "savedmodel": ("tensorflow", load_saved_model),
}


def _batches(pixels, size):
    """Batches of that size; zeros fill the last."""
    for start in range(0, len(pixels), size):
        images = pixels[start : start + size]
        yield np.pad(images, [(0, size - len(images)), (0, 0), (0, 0), (0, 0)])


def _normalised(images, mean, std):
    return ((images / 255 - mean) / std).astype("float32")


def _together(answers, count):
    """[{output: of a batch}, ...] -> {output: of all images}"""
    return {name: np.concatenate([each[name] for each in answers])[:count] for name in answers[0]}


def _named(outputs):
    """{"probabilities", "attention": ...} of pixels under the names of `Samples.expected`"""
    names = {"probabilities": "pixels", "attention": "attention of pixels"}
    return [(names[name], array) for name, array in outputs.items()]


def _peak():
    """The most memory this process has had so far, MB; Linux tells"""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) * 1024 / 1e6


if __name__ == "__main__":
    main()
