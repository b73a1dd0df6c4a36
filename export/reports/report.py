"""Rows of an export -> report.json and report.md: what each artefact costs and loses."""

import json
import pathlib
from typing import Any

from tabulate import tabulate

from export.endpoints import ENDPOINTS
from vit_keras.utils.files import write_json, write_text

Row = dict[str, Any]

NOTES = """
- **Max difference** is the largest difference from the answers of the Keras model (for a SavedModel
  also from its other outputs), on {source}.
- **ms** is the median time of one image on this machine, for a SavedModel from the file's bytes on;
  **memory** is the growth of a process that loads the artefact and runs one image."""


def format_table(rows: list[Row]) -> str:
    """Rows that `publish` returned, each with its "path", as a Markdown table."""
    cells = [_cells(row) for row in rows]
    headers = max(cells, key=len, default={})  # an artefact that was not run has fewer
    return _markdown([[row.get(name, "not run") for name in headers] for row in cells], headers)


def _markdown(rows: Any, headers: Any) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _cells(row: Row) -> dict[str, Any]:
    path = {"artefact": row["path"]}
    size = {
        "MB": f"{row['bytes'] / 1e6:.2f}",
        "operations": sum(row["operations"].values()) or "",
    }
    if row["max_difference"] is None:
        return {**path, "max difference": "not run", **size}
    times = {int(threads): ms for threads, ms in row["milliseconds"].items()}
    return {
        **path,
        **ENDPOINTS[row["task"]].cells(row),
        "max difference": f"{row['max_difference']:.1e}",
        **size,
        **{_threads(threads): f"{ms:.2f}" for threads, ms in times.items()},
        "memory, MB": f"{row['memory_mb']:.0f}",
    }


def _threads(count: int) -> str:
    return "ms, 1 thread" if count == 1 else f"ms, {count} threads"


def add_to_report(out: pathlib.Path, row: Row) -> None:
    """Adds a row to report.json and report.md; drops rows of artefacts that no longer exist.

    Args:
        out: the folder of the export.
        row: what `publish` returned, with the artefact's "path" in the folder.
    """
    table = out / "report.json"
    rows = json.loads(table.read_text(encoding="utf-8")) if table.exists() else []
    rows = [old for old in rows if old["path"] != row["path"] and (out / old["path"]).exists()]
    rows.append(row)
    write_json(table, rows)
    write_text(out / "report.md", format_report(rows))


def format_report(rows: list[Row]) -> str:
    """The table of all artefacts and how to read it, Markdown."""
    text = ["# Export", "", format_table(rows)]
    run = [row for row in rows if row["max_difference"] is not None]
    if run:
        text.append((ENDPOINTS[run[-1]["task"]].note + NOTES).format_map(run[-1]))
    text.append("")
    for row in rows:
        weights = f": {row['model']}" if row["model"] else ""
        text.append(f"- {row['path']}{weights}")
    for row in rows:
        if row["search"]:
            heading = f"## What stayed in float in {row['path']}"
            text += ["", heading, "", _format_search(row["search"])]
    for row in rows:
        if row["operations"]:
            counts = ", ".join(f"{count} {name}" for name, count in row["operations"].items())
            text += ["", f"Operations of {row['path']}: {counts}."]
    return "\n".join(text) + "\n"


def _format_search(search: dict[str, Any]) -> str:
    """What `write_int8` returned, Markdown."""
    scan = [
        {
            "part": row["part"],
            "distance": f"{row['distance']:.4f}",
            "in float": "yes" if row["in_float"] else "",
        }
        for row in search["scan"]
    ]
    tries = [(row["parts_in_float"], f"{row['accuracy']:.1%}") for row in search["search"]]
    images = search["images"]
    return "\n".join(
        [
            f"Calibrated on {images['calibration']}; chosen on {images['search']}.",
            "Distance: how far answers move when only this part is in int8; of a classifier, the "
            "probability that moves to other classes.",
            "",
            _markdown(scan, headers="keys"),
            "",
            _markdown(tries, headers=("parts in float", "accuracy")),
        ]
    )
