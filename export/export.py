"""model.keras + formats -> a folder of verified artefacts, and a table that says what they are."""

import json
import pathlib

from tabulate import tabulate

from export.formats import FORMATS
from export.verify import compare, load_samples
from vit_keras.errors import InputError
from vit_keras.files import replacing, write_json
from vit_keras.model import build_vit, load_model

HEADERS = {
    "format": "format",
    "path": "artefact",
    "bytes": "size (MB)",
    "max_difference": "max difference",
    "tolerance": "tolerance",
    "top1_agreement": "top-1 agreement",
    "milliseconds": "latency (ms, 1 image)",
}


def export(model_path, formats, out, images=None):
    """Writes, verifies and publishes artefacts of a model.

    Each artefact is written beside its place and moved there only after it has answered like
    the Keras model, so that nobody ever sees half a model or a wrong one.

    Args:
        model_path: a .keras file.
        formats: names from FORMATS.
        out: folder for the artefacts, export.json and export.md.
        images: folder of image files to verify on; `samples` beside the model by default.

    Returns:
        a dict for each format: the keys of HEADERS, and "images", how many it was verified on.

    Raises:
        InputError: for a model that cannot be exported, and an artefact whose answers differ
            from Keras's by more than its tolerance.
    """
    model = _in_float32(load_model(model_path))
    if not model.config.num_classes:
        raise InputError(f"{model_path} has no classes; build it with num_classes to export it.")
    samples = load_samples(model, images or pathlib.Path(model_path).parent / "samples")
    out = pathlib.Path(out)
    rows = [_export(model, name, samples, out) for name in dict.fromkeys(formats)]
    print(format_table(rows))
    return rows


def format_table(rows):
    """The rows that `export` returns -> Markdown"""
    cells = [
        {
            **{HEADERS[key]: row[key] for key in HEADERS},
            HEADERS["bytes"]: f"{row['bytes'] / 1e6:.2f}",
            HEADERS["max_difference"]: f"{row['max_difference']:.1e}",
            HEADERS["tolerance"]: f"{row['tolerance']:.0e}",
            HEADERS["top1_agreement"]: f"{row['top1_agreement']:.1%} of {row['images']}",
            HEADERS["milliseconds"]: f"{row['milliseconds']:.2f}",
        }
        for row in rows
    ]
    return tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)


def _export(model, name, samples, out):
    row = FORMATS[name]
    target = row.target(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        row.write(model, path)
        answers, milliseconds = row.run(path, samples)
        difference, agreement = compare(answers, samples)
        if not difference <= row.tolerance:  # not: NaN passes no comparison
            raise InputError(
                f"the {name} export answers differently from Keras: its probabilities differ by "
                f"up to {difference:.1e}, tolerance {row.tolerance:.0e}. It was not written."
            )
        size = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
    result = {
        "format": name,
        "path": str(target.relative_to(out)),
        "bytes": size,
        "max_difference": difference,
        "tolerance": row.tolerance,
        "top1_agreement": agreement,
        "images": len(samples.encoded),
        "milliseconds": milliseconds,
        "model": model.description,
    }
    _add_to_tables(out, result)
    return result


def _add_to_tables(out, result):
    """Adds a row to export.json and export.md, and keeps those whose artefacts still exist."""
    table = out / "export.json"
    rows = json.loads(table.read_text(encoding="utf-8")) if table.exists() else []
    rows = [row for row in rows if row["path"] != result["path"] and (out / row["path"]).exists()]
    rows.append(result)
    write_json(table, rows)
    with replacing(out / "export.md") as path:
        of = [f"- {row['path']}: {row['model']}" for row in rows if row.get("model")]
        path.write_text("\n".join([format_table(rows), "", *of]) + "\n", encoding="utf-8")


def _in_float32(model):
    """The model itself, or one like it without the half precision it was trained with."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    twin = build_vit(
        model.config,
        preprocessing=model.preprocessing,
        class_names=model.class_names,
        name=model.name,
    )
    twin.set_weights(model.get_weights())
    twin.description = model.description
    return twin
