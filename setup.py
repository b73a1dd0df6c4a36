"""Package metadata -> the distribution vit-keras-edge and its extras."""

import pathlib
import re

from setuptools import find_packages, setup

APP = [
    "keras>=3.15,<4",  # Muon of 3.12 does not run on TensorFlow
    "tensorflow>=2.20,<2.22",
    "tensorflow-datasets>=4.9.9,<5",
    "importlib_resources>=6",  # tensorflow-datasets 4.9.10 imports it and does not say so
    "ai-edge-litert>=2.3,<3",
    "flatbuffers>=25.9",
    "litert-quantizer>=0.11,<0.12",
    "markdown-it-py>=3",
    "matplotlib>=3.9",
    "onnx>=1.17",
    "onnxruntime>=1.20",
    "onnxscript>=0.5",
    "psutil>=5.9",
    "pydantic>=2.9,<3",
    "scikit-learn>=1.5",
    "scipy>=1.13",
    "tabulate>=0.9",
    "tensorboard>=2.20,<2.22",
    "tf2onnx>=1.17",
]
COREML = ["coremltools>=9,<10"]
HUB = ["huggingface_hub>=0.30"]
TEST = [
    *HUB,
    "jax>=0.6",
    "mypy>=1.13",
    "pillow>=11",
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "ruff>=0.8",
    "selenium>=4.30",
    "tensorflow-serving-api>=2.19",
]
TORCH = ["timm==1.0.31", "torch==2.13.0", "torchvision==0.28.0"]
BENCH = [
    *TORCH,
    "keras-hub>=0.25",
    "litert-torch>=0.10",
    "openvino>=2026.4",
]
VERSION = re.search(
    r'__version__ = "(.+)"', pathlib.Path("vit_keras/__init__.py").read_text(encoding="utf-8")
)[1]

setup(
    name="vit-keras-edge",
    version=VERSION,
    description="Vision Transformers in Keras 3, from labelled images to TF Serving and phones",
    long_description=pathlib.Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # The wheel holds the library alone: training and export are run from a checkout, and their
    # names would collide with a user's own folders in site-packages.
    packages=find_packages(include=["vit_keras", "vit_keras.*"]),
    # Makes `pip install -e .` put the whole checkout on the path.
    package_dir={"": "."},
    package_data={"vit_keras": ["py.typed"]},
    install_requires=["keras>=3.12,<4", "numpy>=2", "safetensors>=0.5"],
    extras_require={
        "app": APP,  # training and export
        "coreml": COREML,  # export --format coreml
        "hub": HUB,  # hf:// addresses
        "test": APP + TEST,
        # What written weights are read with, in the slow tests; torch also reads .pth files.
        "peers": [*TORCH, "transformers==5.23.0"],
        "bench": APP + BENCH,
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
