"""Rows of an export -> report.json and report.md: what each artefact costs and loses."""

import json
import pathlib
from typing import Any

from tabulate import tabulate

from export.checks.devices import GPU_IMAGES
from export.endpoints import ENDPOINTS
from vit_keras.utils.errors import InputError, first_line
from vit_keras.utils.files import write_json, write_text

Row = dict[str, Any]
SHOWN = 4  # kinds of operations in float

NOTES = """
- **Max difference** is the largest difference from the answers of the Keras model (for a SavedModel
  also from its other outputs), on {source}.
- **ms** is the median time of one image on this machine, for a SavedModel from the file's bytes on;
  **cold start** the time to load the artefact and run the first image, one thread; **memory** the
  growth of a process that does."""
DEVICES = """
## Which file for which device

- **Oldest runtime**: older ones refuse the file with an error. For TensorFlow Lite and LiteRT it
  follows from the versions of the file's operations.
- **GPU**: operations that LiteRT's GPU engine (Android, iOS, WebGPU) takes, and its difference from
  the CPU's answers on {images} images, run on {device}. A file whose operations it does not all
  take runs in part on the CPU.
- **Integer accelerator** (NPU, DSP, Edge TPU): operations in integers, and the partitions that they
  form; each further partition costs a transfer.
- **float16**: numbers that exceed its range, with which phones' GPUs compute, and variances so
  small that it rounds them."""


def format_table(rows: list[Row]) -> str:
    """Rows that `publish` returned, each with its "path", as a Markdown table."""
    cells = [_cells(row) for row in rows]
    headers = max(cells, key=len, default={})  # an artefact that was not run has fewer
    return _markdown([[row.get(name, "not run") for name in headers] for row in cells], headers)


def _markdown(rows: Any, headers: Any) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _cells(row: Row) -> dict[str, Any]:
    path = {"artefact": row["path"]}
    size = {"MB": f"{row['bytes'] / 1e6:.2f}"}
    if row["max_difference"] is None:
        return {**path, "max difference": "not run", **size}
    times = {int(threads): ms for threads, ms in row["milliseconds"].items()}
    return {
        **path,
        **ENDPOINTS[row["task"]].cells(row),
        "max difference": f"{row['max_difference']:.1e}",
        **size,
        **{_threads(threads): f"{ms:.2f}" for threads, ms in times.items()},
        "cold start, ms": f"{row['cold_start_ms']:.0f}",
        "memory, MB": f"{row['memory_mb']:.0f}",
    }


def format_devices(rows: list[Row]) -> str:
    """Which runtimes and accelerators take each artefact, Markdown."""
    table = [
        {
            "artefact": row["path"],
            "for": row["use"],
            "oldest runtime": row["least_runtime"],
            "GPU": _gpu(row["gpu"]),
            "integer accelerator": _integer(row["integer"]),
            "float16": _half_range(row["half_range"]),
        }
        for row in rows
    ]
    devices = sorted({row["gpu"]["device"] for row in rows if row["gpu"]})
    notes = DEVICES.format(images=GPU_IMAGES, device=" and ".join(devices) or "no GPU: not run")
    return f"{notes}\n\n{_markdown(table, 'keys')}"


def _gpu(gpu: dict[str, Any] | None) -> str:
    if gpu is None:
        return "not run"
    total = gpu["gpu_operations"] + gpu["cpu_operations"]
    if gpu["max_difference"] is not None:
        return f"all {total}, difference {gpu['max_difference']:.0e}"
    reason = f": {gpu['refused'][0]}" if gpu["refused"] else ""
    return f"{gpu['gpu_operations']} of {total}{reason}"


def _integer(integer: dict[str, Any] | None) -> str:
    if integer is None:
        return ""
    if not integer["integer"]:
        return "none"
    partitions = integer["partitions"]
    text = f"{integer['integer']} of {integer['operations']} in {partitions} partition"
    text += "" if partitions == 1 else "s"
    floats = [f"{count} {name}" for name, count in integer["float"].items()]
    if len(floats) > SHOWN:
        floats = [*floats[:SHOWN], "..."]
    return text + (f"; float: {', '.join(floats)}" if floats else "")


def _half_range(check: dict[str, Any] | None) -> str:
    if check is None:
        return ""
    return (
        f"{check['too_large']} of {check['tensors']} tensors too large, "
        f"{check['small_variances']} small variances"
    )


def _threads(count: int) -> str:
    return "ms, 1 thread" if count == 1 else f"ms, {count} threads"


def read_report(out: pathlib.Path) -> dict[str, Any] | None:
    """Reads report.json.

    Args:
        out: the folder of the export.

    Returns:
        {"model": {"sha256", "name", "description"}, "artefacts": rows, "earlier_versions": paths
        of other models' SavedModels}; None where there is no such file. Artefacts that no longer
        exist are left out.

    Raises:
        InputError: for a file that is broken or of another version of this project.
    """
    path = out / "report.json"
    if not path.exists():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        rows, versions = report["artefacts"], report["earlier_versions"]
        for name in [row["path"] for row in rows] + versions:
            if pathlib.PurePath(name).is_absolute() or ".." in pathlib.PurePath(name).parts:
                raise ValueError(name)  # rows name files that may be removed
        format_report(report)  # finds fields that are missing
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a report of this version's export ({type(error).__name__}: "
            f"{first_line(error)}). Export to another folder, or delete this one."
        ) from error
    return {
        "model": report["model"],
        "artefacts": [row for row in rows if (out / row["path"]).exists()],
        "earlier_versions": [name for name in versions if (out / name).exists()],
    }


def write_report(
    out: pathlib.Path, model: dict[str, str], rows: list[Row], earlier_versions: list[str]
) -> None:
    """Writes report.json and, if there are rows, report.md; arguments as `read_report` returns."""
    report = {"model": model, "artefacts": rows, "earlier_versions": earlier_versions}
    write_json(out / "report.json", report)
    if rows:
        write_text(out / "report.md", format_report(report))


def add_to_report(out: pathlib.Path, row: Row) -> None:
    """Adds a row to report.json and report.md; drops rows of artefacts that no longer exist.

    Args:
        out: the folder of the export, with a report.json of the same model.
        row: what `publish` returned, with the artefact's "path" in the folder.
    """
    report = read_report(out) or {}
    rows = [old for old in report["artefacts"] if old["path"] != row["path"]]
    write_report(out, report["model"], [*rows, row], report["earlier_versions"])


def format_report(report: dict[str, Any]) -> str:
    """What `read_report` returns as Markdown: a table of the artefacts, and how to read it."""
    model, rows = report["model"], report["artefacts"]
    text = ["# Export", "", f"Model: {model['name']}, SHA-256 {model['sha256']}.", ""]
    if rows:
        text.append(format_table(rows))
    run = [row for row in rows if row["max_difference"] is not None]
    if run:
        text.append((ENDPOINTS[run[-1]["task"]].note + NOTES).format_map(run[-1]))
    if rows:
        text.append(format_devices(rows))
    text += ["", "## Files", ""]
    for row in rows:
        text.append(f"- {row['path']}: {_described(row)}")
    for name in report["earlier_versions"]:
        text.append(f"- {name}: an earlier version, of another model")
    for row in rows:
        if row["search"]:
            heading = f"## How {row['path']} is quantised"
            text += ["", heading, "", _format_search(row["search"])]
    return "\n".join(text) + "\n"


def _described(row: Row) -> str:
    """Where an artefact's weights are from, and its SHA-256."""
    digest = f"SHA-256 {row['sha256']}"
    return f"{row['model']}; {digest}" if row["model"] else digest


def _format_search(search: dict[str, Any]) -> str:
    """What `IntegerSearch` returned, Markdown."""
    scan = [
        {
            "part": row["part"],
            "statistic": row["statistic"],
            "distance": "" if row["distance"] is None else f"{row['distance']:.4f}",
            "in float": "yes" if row["in_float"] else "",
        }
        for row in search["scan"]
    ]
    tries = [(row["parts_in_float"], f"{row['accuracy']:.1%}") for row in search["search"]]
    images = search["images"]
    return "\n".join(
        [
            f"Calibrated on {images['calibration']}; chosen on {images['search']}.",
            "Statistic: what a part's results are quantised for, the range of their values in all "
            "calibration images, the average range of an image, or percentiles. Distance: how far "
            "answers move when only this part is in integers; of a classifier, the probability "
            "that moves to other classes. It is measured where parts have to stay in float.",
            "",
            _markdown(scan, headers="keys"),
            "",
            _markdown(tries, headers=("parts in float", "accuracy")),
        ]
    )
