"""The table FORMATS: an export format's name -> where its artefact goes, how it is made and run.

Adding a format: a row here and its two functions; the command line, the verification and the
tests read the table.
"""

import dataclasses
import pathlib
from collections.abc import Callable

from export.savedmodel import run_saved_model, write_saved_model
from export.tflite import run_tflite, write_tflite


@dataclasses.dataclass(frozen=True)
class Format:
    """One export format.

    Attributes:
        target: folder -> the path inside it where the next artefact goes.
        write: (model, path) -> None, makes the artefact, a file or folder.
        run: (path, Samples) -> (answers, as `compare` takes them; milliseconds for one image),
            in the artefact's own runtime.
        tolerance: the largest difference from Keras's answers that passes, as `compare` gives it.
    """

    target: Callable[[pathlib.Path], pathlib.Path]
    write: Callable
    run: Callable
    tolerance: float


def next_version(folder):
    """TF Serving's layout, saved_model/1, /2, ...: one more than the highest number there is."""
    base = folder / "saved_model"
    taken = [int(path.name) for path in base.glob("[0-9]*") if path.name.isdecimal()]
    return base / str(max(taken, default=0) + 1)


# The tolerances are for float32 arithmetic in another order; 5e-6 was measured for a Ti/16.
FORMATS = {
    "savedmodel": Format(next_version, write_saved_model, run_saved_model, 2e-5),
    "tflite": Format(lambda folder: folder / "model.tflite", write_tflite, run_tflite, 2e-5),
}
