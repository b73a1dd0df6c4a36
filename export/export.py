"""model.keras + formats -> a folder of verified artefacts, and a report of what they cost."""

import contextlib
import dataclasses
import itertools
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from export.checks.verify import NOT_RUN, RefusedError, Samples, ask_keras, check, judge
from export.endpoints import endpoints_of
from export.formats import FORMATS
from export.images import EVALUATION, Images, load_images
from export.labels import metadata_files
from export.options import Options
from export.reports.model_card import format_card
from export.reports.report import add_to_report, format_table
from export.source import Source
from training.recipe import RunFolder, run_of
from vit_keras.model import load_any
from vit_keras.utils.checks import check_choice
from vit_keras.utils.errors import InputError
from vit_keras.utils.files import replacing, write_json, write_text

Data = str | tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model to export, with the images and settings of its artefacts.

    Attributes:
        model: the trained model.
        images: {"calibration", "search", "evaluation": Images}.
        samples: the evaluation images and the model's answers.
        options: Options.
    """

    model: keras.Model
    images: dict[str, Images]
    samples: Samples
    options: Options


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
) -> list[dict[str, Any]]:
    """Writes, verifies and publishes artefacts of a model.

    Each artefact is written to a temporary path and moved to its place only after it has answered
    like the Keras model, so that half a model or a wrong one is never visible.

    Args:
        model_path: a .keras file.
        formats: names from FORMATS.
        out: folder for the artefacts, labels.txt, report.md, report.json and model_card.md.
        quantizations: names from KINDS; each format is written in those that it has.
        merge_tokens: each artefact is written once for each of these numbers of patches that every
            block merges into others.
        data: images to verify on, as in `load_images`.
        data_dir: as in `load_images`.
        count: as in `load_images`.
        options: Options.

    Returns:
        the rows of the report, a dict each, see `publish`.

    Raises:
        InputError: for a model that cannot be exported; and, after the others have been
            published, for artefacts that were refused.
    """
    options = options or Options()
    if options.attention and any(merge_tokens):
        raise InputError(
            "merged tokens belong to no single patch, so there is no attention map of them: export "
            "with --attention or with --merge-tokens."
        )
    kinds = _kinds(formats, quantizations)
    subject = load_subject(model_path, data, data_dir, count, options)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    reasons: list[str] = []
    for merged, name in itertools.product(dict.fromkeys(merge_tokens), kinds):
        with prepared(subject, name, merged) as source:
            for kind in kinds[name]:
                try:
                    rows.append(_export_one(source, subject.samples, name, kind, merged, out))
                except RefusedError as error:
                    reasons.append(str(error))
                    print(f"Not written: {error}", flush=True)
    _describe(subject, run_of(model_path), out)
    print(format_table(rows))
    if reasons:
        raise InputError("; ".join(reasons))
    return rows


def _kinds(formats: Sequence[str], quantizations: Sequence[str]) -> dict[str, list[str]]:
    """{format: those of the quantizations that it has}; prints which formats have none."""
    kinds = {
        name: [kind for kind in FORMATS[name].kinds if kind in quantizations] for name in formats
    }
    lacking = [
        f"{name} comes in {', '.join(FORMATS[name].kinds)}"
        for name, available in kinds.items()
        if not available
    ]
    if len(lacking) == len(kinds):
        names = " ".join(quantizations)
        raise InputError(f"{'; '.join(lacking)}. Got --quantization {names}.")
    for reason in lacking:
        print(f"Left out: {reason}.", flush=True)
    return {name: available for name, available in kinds.items() if available}


def _export_one(
    source: Source, samples: Samples, name: str, kind: str, merged: int, out: pathlib.Path
) -> dict[str, Any]:
    """Publishes one artefact in the folder `out` and adds it to the report; returns its row."""
    suffix = f"_merge{merged}" if merged else ""
    if kind != "float32":
        suffix += f"_{kind}"
    target = FORMATS[name].target(out, suffix)
    path = str(target.relative_to(out))
    print(f"{path} ...", flush=True)
    row = {**publish(source, samples, name, kind, target), "path": path}
    add_to_report(out, row)
    FORMATS[name].finish_target(source.model, target, source.options)
    return row


def _describe(subject: Subject, run: RunFolder, out: pathlib.Path) -> None:
    """Writes labels.txt, if there are labels, and model_card.md."""
    files = metadata_files(subject.model)
    if "labels.txt" in files:
        write_text(out / "labels.txt", files["labels.txt"])
    write_text(out / "model_card.md", format_card(subject.model, run, subject.options))


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
    subject = load_subject(model, data, data_dir, count, options)
    with prepared(subject, name, merge_tokens) as source:
        return publish(source, subject.samples, name, quantization, pathlib.Path(target))


def load_subject(
    model: keras.Model | str | pathlib.Path,
    data: Data,
    data_dir: str,
    count: int,
    options: Options,
) -> Subject:
    """Loads a model and its images, and asks it for its answers; arguments as in `export_artefact`.

    Raises:
        InputError: for a model that cannot be exported, or without images to verify on.
    """
    path = None
    if isinstance(model, str | pathlib.Path):
        path, model = model, load_any(model)
    endpoints = endpoints_of(model, path)
    endpoints.check(model, path or model.name, options)
    model = endpoints.inference_model(model)
    images = load_images(model, path, data, data_dir, count)
    return Subject(model, images, ask_keras(model, images["evaluation"], options), options)


@contextlib.contextmanager
def prepared(subject: Subject, name: str, merge_tokens: int = 0) -> Iterator[Source]:
    """The float32 artefact of a format, in a temporary folder.

    Args:
        subject: Subject.
        name: a key of FORMATS.
        merge_tokens: patches that every block merges into others.
    """
    endpoints = endpoints_of(subject.model)
    model = endpoints.inference_model(subject.model, merge_tokens)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "source"
        FORMATS[name].write(model, path, subject.options)
        yield Source(path, model, subject.images, subject.options)


def publish(
    source: Source, samples: Samples, name: str, kind: str, target: pathlib.Path
) -> dict[str, Any]:
    """Makes an artefact of one kind, runs it, and moves it to its place if it is good enough.

    Args:
        source: the float32 artefact, of `prepared`.
        samples: the Keras model's answers.
        name: a key of FORMATS.
        kind: one of its kinds.
        target: path of the artefact. The details of an int8 search are written next to it.

    Returns:
        {"format", "quantization", "task", "merge_tokens", "bytes", "operations": {name: count},
        "model": description of its weights, "search": details of an int8 search or None} and what
        `judge` returns, or NOT_RUN for a format that has no runtime here.

    Raises:
        RefusedError: when it is not good enough; nothing is written.
    """
    model, row = source.model, FORMATS[name]
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        search = row.kinds[kind].write(source, path)
        row.finish(model, path, source.options)
        judgement = _verify(source, samples, name, kind, path) if row.runtime else NOT_RUN
        files = [file for file in [path, *path.rglob("*")] if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        operations = row.operations(path)
    if search:
        write_json(target.with_suffix(".search.json"), search)
    return {
        "format": name,
        "quantization": kind,
        "task": model.task,
        "merge_tokens": endpoints_of(model).merged_tokens(model),
        "bytes": size,
        "operations": operations,
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
    run = row.run(path, samples, model.preprocessing)
    tolerance = None if endpoints.merged_tokens(model) else row.kinds[kind].tolerance
    judgement = judge(run, samples, endpoints, tolerance)
    check(judgement, f"{name} in {kind}", endpoints, source.options)
    return judgement
