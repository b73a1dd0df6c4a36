"""model.keras + formats -> a folder of verified artefacts, and a report of what they cost."""

import contextlib
import itertools
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from export.checks.verify import (
    NO_DEVICES,
    NOT_RUN,
    RefusedError,
    Samples,
    check,
    check_gpu,
    judge,
)
from export.digest import artefact_digest
from export.endpoints import endpoints_of
from export.folder import ExportFolder
from export.formats import FORMATS
from export.images import EVALUATION
from export.options import Options
from export.progress import COSTS, Progress, Step, export_cost, silent
from export.reports.report import format_table
from export.selection import kinds_by_format
from export.source import Source
from export.subject import Data, Subject, find_model, load, load_subject
from training.recipe import run_of
from vit_keras.utils.checks import check_choice
from vit_keras.utils.errors import InputError, naming_write_errors
from vit_keras.utils.files import remove_leftovers, replacing, temporary_folder, write_json


def export_model(
    model_path: str | pathlib.Path,
    formats: Sequence[str],
    out: str | pathlib.Path,
    quantizations: Sequence[str] = ("float32",),
    merge_tokens: Sequence[int] = (0,),
    data: Data = "",
    data_dir: str = "",
    count: int = EVALUATION,
    options: Options | None = None,
    replace: bool = False,
) -> list[dict[str, Any]]:
    """Writes, verifies and publishes artefacts of a model.

    Each artefact is written to a temporary path and moved to its place only after it has answered
    like the Keras model, so that half a model or a wrong one is never visible.

    Args:
        model_path: a .keras file, or a run folder.
        formats: names from FORMATS.
        out: folder for the artefacts, labels.txt, report.md, report.json and model_card.md.
        quantizations: names from KINDS; each format is written in those that it has.
        merge_tokens: each artefact is written once for each of these numbers of patches that every
            block merges into others.
        data: images to verify on, as in `load_images`.
        data_dir: as in `load_images`.
        count: as in `load_images`.
        options: Options.
        replace: whether to remove another model's artefacts from the folder. Its SavedModels stay
            as earlier versions, below one of this model.

    Returns:
        the rows of the report, a dict each, see `publish`.

    Raises:
        InputError: for a model that cannot be exported; for a folder with artefacts of another
            model; and, after the others have been published, for artefacts that were refused.
    """
    options, model_path = options or Options(), find_model(model_path)
    _check_merging(merge_tokens, options)
    kinds = kinds_by_format(formats, quantizations)
    variants = list(itertools.product(dict.fromkeys(merge_tokens), kinds))
    step = Progress(export_cost((FORMATS[name].runtime, kinds[name]) for _, name in variants)).step
    with step(f"loading {model_path}", COSTS["load"]):
        model, path = load(model_path, options)
    folder = ExportFolder(pathlib.Path(out), model, replace)
    folder.check()
    with step("asking Keras", COSTS["ask"]):
        subject = load_subject(model, path, data, data_dir, count, options)
    rows, reasons = [], []
    for merged, name in variants:
        with prepared(subject, name, merged, step) as source:
            for kind in kinds[name]:
                try:
                    row = _export_one(source, subject.samples, name, kind, merged, folder, step)
                    rows.append(row)
                except RefusedError as error:
                    reasons.append(str(error))
                    print(f"Not written: {error}", flush=True)
    folder.finish(run_of(model_path), options)
    print(format_table(rows))
    if reasons:
        raise InputError("; ".join(reasons))
    return rows


def _check_merging(merge_tokens: Sequence[int], options: Options) -> None:
    if options.attention and any(merge_tokens):
        raise InputError(
            "merged tokens belong to no single patch, so there is no attention map of them: export "
            "with --attention or with --merge-tokens."
        )


def _export_one(
    source: Source,
    samples: Samples,
    name: str,
    kind: str,
    merged: int,
    folder: ExportFolder,
    step: Step,
) -> dict[str, Any]:
    """Publishes one artefact in the folder and adds it to the report; returns its row."""
    suffix = f"_merge{merged}" if merged else ""
    if kind != "float32":
        suffix += f"_{kind}"
    target = FORMATS[name].target(folder.path, suffix)
    path = str(target.relative_to(folder.path))
    row = {**publish(source, samples, name, kind, target, step, folder.claim), "path": path}
    folder.add(row)
    FORMATS[name].finish_target(source.model, target, source.options)
    return row


def export_artefact(
    model: keras.Model | str | pathlib.Path,
    name: str,
    target: str | pathlib.Path,
    options: Options,
    *,
    quantization: str = "float32",
    merge_tokens: int = 0,
    data: Data = "",
    data_dir: str = "",
    count: int = EVALUATION,
) -> dict[str, Any]:
    """Writes, verifies and publishes one artefact; arguments as in `export.to_tflite`.

    Args:
        model: the model, or the path of its .keras file.
        name: a key of FORMATS.
        target: path of the artefact.
        options: Options.
        quantization: one of the format's kinds.
        merge_tokens: patches that every block merges into others.
        data: images to verify on, as in `load_images`.
        data_dir: as in `load_images`.
        count: as in `load_images`.

    Returns:
        what `publish` does.

    Raises:
        InputError: for a model that cannot be exported, and an artefact that is not good enough.
    """
    check_choice("quantization", quantization, tuple(FORMATS[name].kinds))
    subject = load_subject(*load(model, options), data, data_dir, count, options)
    with prepared(subject, name, merge_tokens) as source:
        return publish(source, subject.samples, name, quantization, pathlib.Path(target))


@contextlib.contextmanager
def prepared(
    subject: Subject, name: str, merge_tokens: int = 0, step: Step = silent
) -> Iterator[Source]:
    """The float32 artefact of a format, in a temporary folder.

    Args:
        subject: Subject.
        name: a key of FORMATS.
        merge_tokens: patches that every block merges into others.
        step: of `Progress`.
    """
    endpoints = endpoints_of(subject.model)
    model = endpoints.inference_model(subject.model, merge_tokens)
    remove_leftovers(tempfile.gettempdir())
    with temporary_folder() as folder:
        path = folder / "source"
        with step(f"converting to {name}", COSTS["convert"]):
            FORMATS[name].write(model, path, subject.options)
        rule = FORMATS[name].float_input(model, subject.options)
        images = {part: each.prepared_by(rule) for part, each in subject.images.items()}
        yield Source(path, model, images, subject.options)


def publish(
    source: Source,
    samples: Samples,
    name: str,
    kind: str,
    target: pathlib.Path,
    step: Step = silent,
    before: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Makes an artefact of one kind, runs it, and moves it to its place if it is good enough.

    Args:
        source: the float32 artefact, of `prepared`.
        samples: the Keras model's answers.
        name: a key of FORMATS.
        kind: one of its kinds.
        target: path of the artefact. The details of an int8 search are written next to it.
        step: of `Progress`.
        before: called when the artefact is good enough, before it is moved.

    Returns:
        {"format", "quantization", "task", "merge_tokens", "use": what it is for, "bytes", "sha256",
        "operations": {name: count}, "model": description of its weights, "search": details of a
        search or None}, what `judge` returns, or NOT_RUN for a format that has no runtime here, and
        "least_runtime", "integer", "gpu" and "half_range" of `tflite_devices`.

    Raises:
        RefusedError: when it is not good enough; nothing is written.
    """
    model, row = source.model, FORMATS[name]
    _make_folder_of(target)
    with replacing(target) as path:
        with step(f"{name} in {kind}: writing", COSTS[kind]):
            search = row.kinds[kind].write(source, path)
            row.finish(model, path, source.options)
        judgement = NOT_RUN
        if row.runtime:
            with step(f"{name} in {kind}: verifying", COSTS[row.runtime]):
                judgement = _verify(source, samples, name, kind, path)
        facts = {
            "bytes": _bytes_of(path),
            "sha256": artefact_digest(path),
            "operations": row.operations(path),
        }
        before()
    if search:
        write_json(target.with_suffix(".search.json"), search)
    return {
        "format": name,
        "quantization": kind,
        "task": model.task,
        "merge_tokens": endpoints_of(model).merged_tokens(model),
        "use": row.kinds[kind].use,
        **facts,
        **NO_DEVICES,
        "least_runtime": row.least_runtime,
        "model": model.description,
        "search": search,
        **judgement,
    }


def _verify(
    source: Source, samples: Samples, name: str, kind: str, path: pathlib.Path
) -> dict[str, Any]:
    """Runs an artefact and judges it; raises RefusedError when it is not good enough."""
    model, row = source.model, FORMATS[name]
    endpoints = endpoints_of(model)
    rule = row.float_input(model, source.options)
    run = row.run(path, samples, rule)
    limits = row.kinds[kind]
    merged = endpoints.merged_tokens(model)
    tolerances = (None, None) if merged else (limits.tolerance, limits.mean_tolerance)
    judgement = judge(run, samples, endpoints, *tolerances)
    check(judgement, f"{name} in {kind}", endpoints, source.options)
    devices = row.devices(path / row.model_file, run, samples, rule)
    check_gpu(devices.get("gpu"), f"{name} in {kind}", limits.gpu_tolerance)
    return judgement | devices


def _bytes_of(path: pathlib.Path) -> int:
    """The size of an artefact, a file or folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def _make_folder_of(path: pathlib.Path) -> None:
    """Makes the folder of an artefact, without what a killed export left in it."""
    with naming_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
