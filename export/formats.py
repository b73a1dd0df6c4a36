"""The table FORMATS: an export format's name -> where its artefacts go, how they are made and run.

Adding a format: a row here and its functions; the command line, the verification and the tests
read the table.
"""

import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Callable

from export.checks.runtimes import run_standalone
from export.onnx import convert as onnx_model
from export.saved_model.serving import write_kit, write_warm
from export.saved_model.writer import write_saved_model
from export.tflite.convert import convert
from export.tflite.flatbuffer import count_operations
from export.tflite.int8_search import write_int8
from export.tflite.metadata import attach_metadata
from export.tflite.quantize import write_dynamic, write_float16, write_int16x8
from export.web.writer import MODEL, in_folder, write_page


@dataclasses.dataclass(frozen=True)
class Format:
    """One export format.

    Attributes:
        target: (folder, what the name of the artefact ends in) -> where it goes.
        prepare: (model, path, Options) -> None, makes the artefact in float32, a file or folder.
        kinds: {quantization: (that float32 artefact, path, images, Options) -> what to tell of it,
            or None}, makes the artefact that is published.
        finish: (path, model, Options) -> None, adds what its users need.
        run: (path, Samples, Preprocessing) -> Run, in the artefact's own runtime.
        operations: path -> {name: count} of the operations in its graph, {} where nobody counts.
        tolerance: the largest difference from Keras's answers that passes, as `compare` gives it,
            in float32.
        beside: (target, model, Options) -> None, writes what stands beside published artefacts.
    """

    target: Callable[[pathlib.Path, str], pathlib.Path]
    prepare: Callable
    kinds: dict[str, Callable]
    finish: Callable
    run: Callable
    operations: Callable
    tolerance: float
    beside: Callable = lambda target, model, options: None


def next_version(folder, suffix):
    """TF Serving's layout, saved_model/1, /2, ...: one more than the highest number there is."""
    base = folder / f"saved_model{suffix}"
    taken = [int(path.name) for path in base.glob("[0-9]*") if path.name.isdecimal()]
    return base / str(max(taken, default=0) + 1)


def _copied(source, path, images, options):
    copy = shutil.copytree if source.is_dir() else shutil.copyfile
    copy(source, path)


KINDS = {
    "float32": _copied,
    "float16": write_float16,
    "dynamic": write_dynamic,
    "int8": write_int8,
    "int16x8": write_int16x8,
}

# The tolerances are for float32 arithmetic in another order; 5e-6 was measured for a Ti/16.
FORMATS = {
    "savedmodel": Format(
        target=next_version,
        prepare=write_saved_model,
        kinds={"float32": write_warm},
        finish=lambda path, model, options: None,
        run=functools.partial(run_standalone, "savedmodel"),
        operations=lambda path: {},
        tolerance=2e-5,
        beside=write_kit,
    ),
    "tflite": Format(
        target=lambda folder, suffix: folder / f"model{suffix}.tflite",
        prepare=lambda model, path, options: convert(
            model, path, options.preprocess, options.batch or 1, options.attention
        ),
        kinds=KINDS,
        finish=lambda path, model, options: attach_metadata(
            path, model, options.author, options.license, options.version
        ),
        run=functools.partial(run_standalone, "tflite"),
        operations=count_operations,
        tolerance=2e-5,
    ),
    "onnx": Format(
        target=lambda folder, suffix: folder / f"model{suffix}.onnx",
        prepare=onnx_model.convert,
        kinds={"float32": _copied, "dynamic": onnx_model.write_dynamic},
        finish=onnx_model.describe,
        run=functools.partial(run_standalone, "onnx"),
        operations=onnx_model.count_operations,
        tolerance=2e-5,
    ),
    "web": Format(
        target=lambda folder, suffix: folder / f"web{suffix}",
        prepare=lambda model, path, options: convert(model, path, attention=options.attention),
        kinds={kind: in_folder(KINDS[kind]) for kind in ("float32", "float16", "dynamic")},
        finish=write_page,
        # Whoever exports need not have a browser.
        run=lambda path, *given: run_standalone("tflite", path / MODEL, *given),
        operations=lambda path: count_operations(path / MODEL),
        tolerance=2e-5,
    ),
}
