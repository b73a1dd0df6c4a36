"""Rows of an export -> report.json and report.md: what each artefact costs and loses."""

import json

from tabulate import tabulate

from vit_keras.utils.files import write_json, write_text

NOTES = """
- **Accuracy** was measured with the artefact itself, in its own runtime (a page's model in LiteRT's
  interpreter), on {source}; the Keras model has {keras_accuracy:.1%} of them right. The change is
  that of the same images, with its 95 % confidence interval (Agresti and Min, matched pairs).
- **Same label** and **max difference** compare with the Keras model: the most probable class, and
  probabilities (of a SavedModel also logits).
- **ms** is the median time of one image on this machine, of a SavedModel from the file's bytes on;
  **memory** is what a process grows by that loads the artefact and runs one image.
"""


def format_table(rows):
    """Rows as `publish` returns them, with their "path" -> Markdown"""
    cells = [_cells(row) for row in rows]
    return tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)


def _cells(row):
    low, high = (f"{100 * end:+.1f}" for end in row["interval"])
    times = {int(threads): ms for threads, ms in row["milliseconds"].items()}
    return {
        "artefact": row["path"],
        "accuracy": f"{row['accuracy']:.1%}",
        "change, points (95 %)": f"{100 * row['change']:+.1f} ({low} to {high})",
        "same label": f"{row['top1_agreement']:.1%}",
        "max difference": f"{row['max_difference']:.1e}",
        "MB": f"{row['bytes'] / 1e6:.2f}",
        "operations": sum(row["operations"].values()) or "",
        **{
            f"ms, {threads} thread" + "s" * (threads > 1): f"{ms:.2f}"
            for threads, ms in times.items()
        },
        "memory, MB": f"{row['memory_mb']:.0f}",
    }


def add_to_report(out, row):
    """Adds a row to report.json and report.md, and keeps those whose artefacts still exist."""
    table = out / "report.json"
    rows = json.loads(table.read_text(encoding="utf-8")) if table.exists() else []
    rows = [kept for kept in rows if kept["path"] != row["path"] and (out / kept["path"]).exists()]
    rows.append(row)
    write_json(table, rows)
    write_text(out / "report.md", format_report(rows))


def format_report(rows):
    """The table of all artefacts and what it takes to read it, as Markdown"""
    text = ["# Export", "", format_table(rows), NOTES.format_map(rows[-1])]
    for row in rows:
        weights = f": {row['model']}" if row["model"] else ""
        text.append(f"- {row['path']}{weights}")
    for row in rows:
        if row["found"]:
            text += [
                "",
                f"## What stayed in float in {row['path']}",
                "",
                _format_found(row["found"]),
            ]
    for row in rows:
        if row["operations"]:
            listed = ", ".join(f"{count} {name}" for name, count in row["operations"].items())
            text += ["", f"Operations of {row['path']}: {listed}."]
    return "\n".join(text) + "\n"


def _format_found(found):
    scan = [
        {
            "part": row["part"],
            "distance": f"{row['distance']:.4f}",
            "in float": "yes" if row["in_float"] else "",
        }
        for row in found["scan"]
    ]
    images = found["images"]
    return "\n".join(
        [
            f"Calibrated on {images['calibration']}; chosen on {images['search']}.",
            "Distance: probability that moves to other classes when the part alone is in int8.",
            "",
            tabulate(scan, headers="keys", tablefmt="github", disable_numparse=True),
            "",
            tabulate(
                [(row["parts_in_float"], f"{row['accuracy']:.1%}") for row in found["search"]],
                headers=("parts in float", "accuracy"),
                tablefmt="github",
                disable_numparse=True,
            ),
        ]
    )
