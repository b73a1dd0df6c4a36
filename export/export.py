"""model.keras + formats -> a folder of verified artefacts, and a report of what they cost."""

import contextlib
import pathlib
import tempfile

import keras

from export.checks.verify import RefusedError, ask_keras, check, judge
from export.formats import FORMATS
from export.images import EVALUATION, load_images
from export.labels import class_labels, metadata_files
from export.options import Options
from export.reports.model_card import format_card
from export.reports.report import add_to_report, format_table
from vit_keras.model import build_vit, get_config, load_model
from vit_keras.utils.checks import check_choice
from vit_keras.utils.errors import InputError
from vit_keras.utils.files import replacing, write_json, write_text


def export(
    model_path,
    formats,
    out,
    quantizations=("float32",),
    merge_tokens=(0,),
    data="",
    data_dir="",
    count=EVALUATION,
    options=None,
):
    """Writes, verifies and publishes artefacts of a model.

    Each artefact is written beside its place and moved there only after it has answered like the
    Keras model, so that nobody ever sees half a model or a wrong one.

    Args:
        model_path: a .keras file.
        formats: names from FORMATS.
        out: folder for the artefacts, labels.txt, report.md, report.json and model_card.md.
        quantizations: each format is written in those of them that it has.
        merge_tokens: each artefact is written with so many tokens merged in every block.
        data, data_dir, count: images to verify on, as in `load_images`.
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
            "merged tokens belong to no single patch, so their attention cannot be told: export "
            "with --attention or with --merge-tokens."
        )
    kinds = _kinds(formats, quantizations)
    model = exportable(classifier(load_model(model_path), model_path))
    images = load_images(model, model_path, data, data_dir, count)
    samples = ask_keras(model, images["evaluation"], options.attention)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    rows, refused = [], []
    for merged in dict.fromkeys(merge_tokens):
        twin = exportable(model, merged)
        for name in kinds:
            with prepared(twin, name, options) as source:
                for kind in kinds[name]:
                    suffix = f"_merge{merged}" * bool(merged) + f"_{kind}" * (kind != "float32")
                    target = FORMATS[name].target(out, suffix)
                    print(f"{target.relative_to(out)} ...", flush=True)
                    try:
                        row = publish(twin, source, name, kind, target, images, samples, options)
                    except RefusedError as error:
                        refused.append(str(error))
                        print(f"Not written: {error}", flush=True)
                        continue
                    row = {**row, "path": str(target.relative_to(out))}
                    rows.append(row)
                    add_to_report(out, row)
                    FORMATS[name].beside(target, model, options)
    write_text(out / "labels.txt", metadata_files(model, class_labels(model))["labels.txt"])
    write_text(out / "model_card.md", format_card(model, pathlib.Path(model_path).parent, options))
    print(format_table(rows))
    if refused:
        raise InputError("; ".join(refused))
    return rows


def _kinds(formats, quantizations):
    """{format: those of the quantizations that it has}; says what has none, and is left out."""
    kinds = {
        name: [kind for kind in FORMATS[name].kinds if kind in quantizations] for name in formats
    }
    lacking = [
        f"{name} comes in {', '.join(FORMATS[name].kinds)}"
        for name, has in kinds.items()
        if not has
    ]
    if len(lacking) == len(kinds):
        asked = " ".join(quantizations)
        raise InputError(f"{'; '.join(lacking)}. Got --quantization {asked}.")
    for reason in lacking:
        print(f"Left out: {reason}.", flush=True)
    return {name: has for name, has in kinds.items() if has}


def write(
    model,
    name,
    target,
    quantization="float32",
    merge_tokens=0,
    data="",
    data_dir="",
    count=EVALUATION,
    **options,
):
    """Writes one artefact; see `export.to_tflite`."""
    check_choice("quantization", quantization, tuple(FORMATS[name].kinds))
    wanted = Options(**options)
    path = None if isinstance(model, keras.Model) else model
    model = exportable(classifier(model if path is None else load_model(path), path))
    images = load_images(model, path, data, data_dir, count)
    samples = ask_keras(model, images["evaluation"], wanted.attention)
    twin = exportable(model, merge_tokens)
    with prepared(twin, name, wanted) as source:
        given = pathlib.Path(target), images, samples, wanted
        return publish(twin, source, name, quantization, *given)


def publish(model, source, name, kind, target, images, samples, options):
    """Makes an artefact of one kind, runs it, and moves it to its place if it is good.

    Args:
        model: ViT that was made ready by `exportable`.
        source: the float32 artefact that `prepared` gave.
        name: a key of FORMATS.
        kind: one of its kinds.
        target: path of the artefact. What a search found is written beside it.
        images, samples, options: as in `export`.

    Returns:
        {"format", "quantization", "merge_tokens", "bytes", "operations": {name: count}, "model":
        what its weights are, "found": by the search for a kind, and what `judge` says}.

    Raises:
        RefusedError: where it is not; nothing is written.
    """
    row = FORMATS[name]
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        found = row.kinds[kind](source, path, images, options)
        row.finish(path, model, options)
        run = row.run(path, samples, model.preprocessing)
        exact = kind == "float32" and not model.config.merge_tokens
        judged = judge(run, samples, row.tolerance if exact else None)
        check(judged, f"{name} in {kind}", options)
        files = [file for file in [path, *path.rglob("*")] if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        operations = row.operations(path)
    if found:
        write_json(target.with_suffix(".search.json"), found)
    return {
        "format": name,
        "quantization": kind,
        "merge_tokens": model.config.merge_tokens,
        "bytes": size,
        "operations": operations,
        "model": model.description,
        "found": found,
        **judged,
    }


@contextlib.contextmanager
def prepared(model, name, options):
    """The float32 artefact of a format, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "source"
        FORMATS[name].prepare(model, source, options)
        yield source


def classifier(model, path=None):
    """The ViT itself, if it tells classes apart.

    Raises:
        InputError: where it does not, or is no ViT of this project.
    """
    if not get_config(model).num_classes:
        named = path or model.name
        raise InputError(f"{named} has no classes; build it with num_classes to export it.")
    return model


def exportable(model, merge_tokens=0):
    """A model of the same weights as artefacts compute it.

    In float32, with tokens merged in every block, and without what nobody reads of the last.
    """
    config = model.config.replace(
        merge_tokens=merge_tokens or model.config.merge_tokens,
        trim_last_block=model.config.pooling == "cls",
    )
    in_float32 = all(layer.compute_dtype == "float32" for layer in model.layers)
    if in_float32 and config == model.config:
        return model
    twin = build_vit(
        config,
        preprocessing=model.preprocessing,
        class_names=model.class_names,
        name=model.name,
    )
    twin.set_weights(model.get_weights())
    twin.description = model.description
    return twin
