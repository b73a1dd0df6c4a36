"""The table FORMATS: export format -> where its artefacts go, how they are made and run.

Adding a format: a row here and its functions. The command line, the verification and the tests read
the table.
"""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import keras

from export.checks.devices import tflite_devices
from export.checks.runtimes import run_standalone
from export.checks.verify import Run, Samples
from export.coreml import convert as coreml_files
from export.coreml.operations import check_interface
from export.coreml.operations import count_operations as count_coreml_operations
from export.endpoints.pixels import input_preprocessing
from export.onnx import convert as onnx_files
from export.onnx import quantize as onnx_kinds
from export.onnx.operations import count_operations as count_onnx_operations
from export.options import Options
from export.saved_model.serving import write_kit, write_with_warm_up
from export.saved_model.writer import write_saved_model
from export.source import Source
from export.tflite.convert import write_tflite
from export.tflite.finish import finish
from export.tflite.flatbuffer import count_operations
from export.tflite.integers import write_int8, write_int8_full, write_int16x8
from export.tflite.quantize import write_dynamic, write_float16
from export.web.writer import MODEL, add_page, in_folder, missing_tool, write_page_model
from vit_keras.images.preprocessing import Preprocessing

Writer = Callable[[keras.Model, pathlib.Path, Options], None]
EXACT = 2e-5  # for arithmetic in another order; 5e-6 was measured for a Ti/16


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of quantisation.

    Attributes:
        write: (Source, path) -> details for the report, or None; writes the artefact from the
            float32 one.
        tolerance: largest difference from Keras's answers that passes, see `largest_difference`;
            None for any.
        mean_tolerance: largest distance from them that passes, see `Endpoints.distance`, for a
            classifier the probability that moves to other classes on average; None for any.
        gpu_tolerance: largest difference of the GPU engine's answers from the CPU's.
        use: what files of this kind are for, a phrase.
    """

    write: Callable[[Source, pathlib.Path], dict[str, Any] | None]
    tolerance: float | None = None
    mean_tolerance: float | None = None
    gpu_tolerance: float = 0.05
    use: str = ""


def copy_source(source: Source, path: pathlib.Path) -> None:
    """Writes the float32 artefact itself."""
    copy = shutil.copytree if source.path.is_dir() else shutil.copyfile
    copy(source.path, path)


def next_version(folder: pathlib.Path, suffix: str) -> pathlib.Path:
    """The next path in TF Serving's layout, saved_model/1, /2, ...: the highest number plus one."""
    base = folder / f"saved_model{suffix}"
    versions = [int(path.name) for path in base.glob("[0-9]*") if path.name.isdecimal()]
    return base / str(max(versions, default=0) + 1)


def tflite_file(folder: pathlib.Path, suffix: str) -> pathlib.Path:
    """The path of a .tflite file."""
    return folder / f"model{suffix}.tflite"


def onnx_file(folder: pathlib.Path, suffix: str) -> pathlib.Path:
    """The path of a .onnx file."""
    return folder / f"model{suffix}.onnx"


def coreml_package(folder: pathlib.Path, suffix: str) -> pathlib.Path:
    """The path of a Core ML package, a folder."""
    return folder / f"model{suffix}.mlpackage"


def web_folder(folder: pathlib.Path, suffix: str) -> pathlib.Path:
    """The path of a page."""
    return folder / f"web{suffix}"


def nothing_to_add(model: keras.Model, path: pathlib.Path, options: Options) -> None:
    """Adds nothing to an artefact."""


def normalised_input(model: keras.Model, options: Options) -> Preprocessing:
    """The preprocessing of the model, for inputs that the caller normalises."""
    return model.preprocessing


def no_devices(
    path: pathlib.Path, run: Run, samples: Samples, preprocessing: Preprocessing
) -> dict[str, Any]:
    """Nothing, for formats that run on the CPU of their own runtime."""
    return {}


def nothing_missing() -> str:
    """No tool, for formats that need none but the project's own packages."""
    return ""


def not_counted(path: pathlib.Path) -> dict[str, int]:
    """No operations, for formats in which they are not counted."""
    return {}


@dataclasses.dataclass(frozen=True)
class Format:
    """One export format.

    Attributes:
        target: (folder, suffix of the name) -> the path of the artefact.
        write: (model, path, Options), writes the artefact in float32, a file or folder.
        kinds: {quantization: Kind}.
        finish: (model, path, Options), adds what users of the artefact need, or checks it.
        runtime: that the artefact is verified in, a key of `run_standalone.RUNTIMES`; "" for one
            that cannot be run here.
        model_file: path of the file to run, inside an artefact that is a folder; "" for the
            artefact itself.
        count_operations: path of that file -> {name: count} of the operations in its graph.
        devices: (path of that file, its Run, Samples, Preprocessing of float32 inputs) -> fields of
            the report about the runtimes and accelerators that take it.
        float_input: (model, Options) -> Preprocessing, how images become float32 inputs.
        least_runtime: the oldest version of the runtime that was measured to read artefacts, where
            `devices` does not find it out.
        finish_target: (model, target, Options), writes files next to a published artefact.
        missing: () -> the tool that the format needs and that is not installed, or "".
    """

    target: Callable[[pathlib.Path, str], pathlib.Path]
    write: Writer
    kinds: dict[str, Kind]
    finish: Writer
    runtime: str
    model_file: str = ""
    count_operations: Callable[[pathlib.Path], dict[str, int]] = not_counted
    float_input: Callable[[keras.Model, Options], Preprocessing] = input_preprocessing
    devices: Callable[[pathlib.Path, Run, Samples, Preprocessing], dict[str, Any]] = no_devices
    least_runtime: str = ""
    finish_target: Writer = nothing_to_add
    missing: Callable[[], str] = nothing_missing

    def run(self, path: pathlib.Path, samples: Samples, preprocessing: Preprocessing) -> Run:
        """Runs an artefact in its own runtime."""
        return run_standalone(self.runtime, path / self.model_file, samples, preprocessing)

    def operations(self, path: pathlib.Path) -> dict[str, int]:
        """{name: count} of the operations in an artefact's graph; {} where they are not counted."""
        return self.count_operations(path / self.model_file)


# Tolerances are several times what good files were measured to differ by. Files that a runtime
# computes wrongly, or that are quantised for wrong ranges, move 0.06 to 0.8 of the probability.
KINDS: dict[str, Kind] = {
    "float32": Kind(copy_source, EXACT, gpu_tolerance=1e-4, use="GPUs and CPUs, the reference"),
    "float16": Kind(write_float16, 0.01, gpu_tolerance=1e-4, use="GPUs of phones"),
    "dynamic": Kind(write_dynamic, mean_tolerance=0.1, use="CPUs of phones and computers"),
    "int8": Kind(write_int8, mean_tolerance=0.1, use="CPUs that are fast in int8"),
    "int8-full": Kind(write_int8_full, mean_tolerance=0.1, use="integer accelerators: NPU, DSP"),
    "int16x8": Kind(write_int16x8, 0.01, use="accelerators for 16-bit activations"),
}

FORMATS = {
    "savedmodel": Format(
        target=next_version,
        write=write_saved_model,
        kinds={"float32": Kind(write_with_warm_up, EXACT, use="TF Serving")},
        finish=nothing_to_add,
        runtime="savedmodel",
        float_input=normalised_input,
        least_runtime="TensorFlow 2.12",
        finish_target=write_kit,
    ),
    "tflite": Format(
        target=tflite_file,
        write=write_tflite,
        kinds=KINDS,
        finish=finish,
        runtime="tflite",
        count_operations=count_operations,
        devices=tflite_devices,
    ),
    "onnx": Format(
        target=onnx_file,
        write=onnx_files.write_onnx,
        kinds={
            "float32": Kind(copy_source, EXACT, use="onnxruntime and others"),
            "float16": Kind(onnx_kinds.write_float16, 0.01, use="onnxruntime on a GPU"),
            "dynamic": Kind(
                onnx_kinds.write_dynamic, mean_tolerance=0.1, use="onnxruntime on a CPU"
            ),
            "int8": Kind(
                onnx_kinds.write_int8, mean_tolerance=0.1, use="CPUs with int8 instructions"
            ),
        },
        finish=onnx_files.add_properties,
        runtime="onnx",
        least_runtime="onnxruntime 1.15",
        count_operations=count_onnx_operations,
    ),
    "coreml": Format(
        target=coreml_package,
        write=coreml_files.write_source,
        kinds={
            "float32": Kind(coreml_files.write_float32, use="Apple CPUs and GPUs"),
            "float16": Kind(coreml_files.write_float16, use="Apple's Neural Engine"),
        },
        finish=check_interface,
        runtime="",
        least_runtime="iOS 15, macOS 12",
        missing=coreml_files.missing_tool,
        count_operations=count_coreml_operations,
    ),
    "web": Format(
        target=web_folder,
        write=write_page_model,
        kinds={
            kind: dataclasses.replace(
                KINDS[kind], write=in_folder(KINDS[kind].write), use="browsers"
            )
            for kind in ("float32", "float16", "dynamic")
        },
        finish=add_page,
        missing=missing_tool,
        runtime="tflite",  # verified in LiteRT: no browser needed
        model_file=MODEL,
        count_operations=count_operations,
        devices=tflite_devices,
    ),
}
