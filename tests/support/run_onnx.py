"""Runs in an environment of its own: .onnx files and images -> answers, or why there are none.

python run_onnx.py RUNTIME FOLDER: FOLDER has pixels.npy, uint8 images, and .onnx files; standard
output is JSON, {file's name: [answers of all images, or the runtime's message]}.
"""

import json
import pathlib
import sys

import numpy as np


def load_onnxruntime(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["probabilities"], {"images": images})[0]


def load_openvino(path):
    import openvino

    # On processors with bfloat16 it would compute in that.
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: model({"images": images})["probabilities"]


def answers_of(load, path, pixels):
    try:
        return load(str(path))(pixels).tolist()
    except Exception as error:  # every runtime has its own
        return str(error)


load = {"onnxruntime": load_onnxruntime, "openvino": load_openvino}[sys.argv[1]]
folder = pathlib.Path(sys.argv[2])
pixels = np.load(folder / "pixels.npy")
files = sorted(folder.glob("*.onnx"))
json.dump({file.stem: answers_of(load, file, pixels) for file in files}, sys.stdout)
