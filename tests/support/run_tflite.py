"""Runs in an environment of its own: .tflite files and images -> answers, or why there are none.

python run_tflite.py RUNTIME FOLDER: FOLDER has pixels.npy, uint8 images, and .tflite files;
standard output is JSON, {file's name: [answers of all images, or the runtime's message]}.
"""

import json
import pathlib
import sys

import numpy as np


def with_interpreter(interpreter_class, path):
    interpreter = interpreter_class(path)
    interpreter.allocate_tensors()
    (image,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def ask(pixels):
        interpreter.set_tensor(image["index"], pixels)
        interpreter.invoke()
        scale, zero_point = answer["quantization"]
        numbers = interpreter.get_tensor(answer["index"])[0].astype("float32")
        return (numbers - zero_point) * scale if scale else numbers

    return ask


def load_tflite_runtime(path):
    from tflite_runtime.interpreter import Interpreter

    return with_interpreter(Interpreter, path)


def load_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    return with_interpreter(Interpreter, path)


def load_tensorflow(path):
    import tensorflow

    return with_interpreter(tensorflow.lite.Interpreter, path)


def load_openvino(path):
    import openvino

    # On processors with bfloat16 it would compute in that.
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def ask(pixels):
        answer = model([pixels])[0][0]
        return answer / 256 if answer.dtype == np.uint8 else answer  # int8-full: steps of 1 / 256

    return ask


def load_mediapipe(path):
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=path), max_results=-1)
    classifier = vision.ImageClassifier.create_from_options(options)

    def ask(pixels):
        image = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(pixels[0]))
        (head,) = classifier.classify(image).classifications
        scores = {category.index: category.score for category in head.categories}
        return np.array([scores[index] for index in sorted(scores)])

    return ask


def answers_of(load, path, pixels):
    try:
        ask = load(str(path))
        return [ask(image[np.newaxis]).tolist() for image in pixels]
    except Exception as error:  # every runtime has its own
        return str(error)


RUNTIMES = {
    "tflite_runtime": load_tflite_runtime,
    "litert": load_litert,
    "tensorflow": load_tensorflow,
    "openvino": load_openvino,
    "mediapipe": load_mediapipe,
}
load = RUNTIMES[sys.argv[1]]
folder = pathlib.Path(sys.argv[2])
pixels = np.load(folder / "pixels.npy")
files = sorted(folder.glob("*.tflite"))
json.dump({file.stem: answers_of(load, file, pixels) for file in files}, sys.stdout)
