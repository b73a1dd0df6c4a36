"""Numbers of a run -> Figures: image grids, curves, confusion matrix, mistakes, calibration."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from training.data.examples import Examples
from vit_keras.utils.files import replacing

MAX_MISTAKES = 24  # images on the sheet
MAX_LABELLED_CLASSES = 40  # of a confusion matrix
matplotlib.use("Agg")

Line = tuple[Sequence[float], Sequence[float]]  # x values, y values


def image_grid(
    images: Sequence[np.ndarray],
    columns: int,
    cell: tuple[float, float],
    *,
    margin: tuple[float, float] = (0, 0),
    titles: Iterable[str] = (),
    row_labels: Iterable[str] = (),
    font_size: float = 7.5,
    frames: bool = False,
    **imshow: Any,
) -> Figure:
    """Draws images row by row, without ticks.

    `figure.axes` of the result has one Axes per cell, row by row. There is at least one row.

    Args:
        images: (height, width) or (height, width, channels) each, uint8 or fractions.
        columns: images in a row.
        cell: width and height of a cell, including its title, in inches.
        margin: width and height of the figure outside of the cells, in inches.
        titles: of the first images, one each.
        row_labels: of the first rows, one each; only `frames` shows them.
        font_size: of titles and row labels, in points.
        frames: whether each image has a frame.
        **imshow: options of `Axes.imshow`. By default images of one channel are grey, with black
            at 0 and white at 1.
    """
    rows = max(1, math.ceil(len(images) / columns))
    size = (cell[0] * columns + margin[0], cell[1] * rows + margin[1])
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    _draw_images(grid.ravel(), images, frames, {"cmap": "gray", "vmin": 0, "vmax": 1, **imshow})
    for axes, title in zip(grid.ravel(), titles, strict=False):
        axes.set_title(title, fontsize=font_size)
    for axes, label in zip(grid[:, 0], row_labels, strict=False):
        axes.set_ylabel(label, fontsize=font_size)
    return figure


def _draw_images(
    cells: np.ndarray, images: Sequence[np.ndarray], frames: bool, imshow: dict[str, Any]
) -> None:
    for axes in cells[len(images) if frames else 0 :]:
        axes.axis("off")
    for axes, image in zip(cells, images, strict=False):
        axes.imshow(image, **imshow)
        axes.set(xticks=[], yticks=[])


def curves(panels: Mapping[str, Mapping[str, Line]], along: str) -> Figure:
    """Draws lines into several panels, two in a row.

    Args:
        panels: {title: {label: (x values, y values)}}; values of a panel with "accuracy" in its
            title are fractions.
        along: name of the x axis; "epoch" has a linear scale, any other a logarithmic one.
    """
    rows = math.ceil(len(panels) / 2)
    figure = Figure(figsize=(10, 3.3 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.axis("off")
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        for label, values in lines.items():
            # A line through a single point is invisible: few points have markers.
            axes.plot(*values, label=label, marker="." if len(values[0]) < 20 else "")
        _finish_axes(axes, title, along)
        if len(lines) > 1:
            axes.legend()
    return figure


def seeds(groups: Mapping[str, Sequence[Line]], title: str) -> Figure:
    """Draws each group's mean over its runs, in a band from the lowest run to the highest.

    Args:
        groups: {label: [(epochs, values) of a run, ...]}.
        title: of the figure, what the values are.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, runs in groups.items():
        by_epoch: dict[float, list[float]] = {}
        for epoch, value in (point for run in runs for point in zip(*run, strict=True)):
            by_epoch.setdefault(epoch, []).append(value)
        epochs = list(by_epoch)
        means = [np.mean(values) for values in by_epoch.values()]
        count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
        (line,) = axes.plot(epochs, means, marker=".", label=f"{label}, {count}")
        low, high = zip(*((min(values), max(values)) for values in by_epoch.values()), strict=True)
        axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    _finish_axes(axes, title, "epoch")
    axes.legend()
    return figure


def _finish_axes(axes: Axes, title: str, along: str) -> None:
    axes.set(title=title, xlabel=along)
    axes.grid(alpha=0.3)
    if along == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_xscale("log")
    if "accuracy" in title:
        axes.yaxis.set_major_formatter(PercentFormatter(1))


def confusion(probabilities: np.ndarray, examples: Examples) -> Figure:
    """Draws a confusion matrix, in images; more than 40 classes have no labels.

    Args:
        probabilities: (count, classes) for `examples`.
        examples: the images, with their classes.
    """
    classes = np.arange(len(examples.class_names))
    matrix = confusion_matrix(examples.labels, probabilities.argmax(axis=1), labels=classes)
    labelled = len(classes) <= MAX_LABELLED_CLASSES
    side = max(5, min(16, 2 + 0.45 * len(classes)))
    figure = Figure(figsize=(side, side), layout="constrained")
    labels = escape_math(examples.class_names) if labelled else None
    ConfusionMatrixDisplay(matrix, display_labels=labels).plot(
        ax=figure.subplots(),
        include_values=labelled,
        cmap="Blues",
        colorbar=False,
        xticks_rotation="vertical",
    )
    return figure


def mistakes(probabilities: np.ndarray, examples: Examples) -> Figure:
    """Draws the images whose wrong class has the highest probabilities, 24 at most.

    Args:
        probabilities: (count, classes) for `examples`.
        examples: the images, with their classes.
    """
    predicted = probabilities.argmax(axis=1)
    confidence = np.where(predicted == examples.labels, -1.0, probabilities.max(axis=1))
    worst = np.argsort(-confidence)[: min(MAX_MISTAKES, (confidence >= 0).sum())]
    names = escape_math(examples.class_names)
    titles = [
        f"{names[examples.labels[index]]}\n"
        f"taken for {names[predicted[index]]}, {confidence[index]:.0%}"
        for index in worst
    ]
    images = [np.asarray(examples.read(index)) for index in worst]
    # Grey images are drawn from their own darkest value to their own brightest.
    figure = image_grid(images, 6, (1.8, 2.2), titles=titles, vmin=None, vmax=None)
    if not images:
        figure.axes[0].text(0, 0.5, "no mistakes")
    return figure


def calibration(images: np.ndarray, accuracy: np.ndarray, confidence: np.ndarray) -> Figure:
    """Draws a reliability diagram, next to a histogram of its images.

    Args:
        images: (bins,), of `metrics.reliability`, as are the others.
        accuracy: (bins,), fractions.
        confidence: (bins,), fractions.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    diagram, histogram = figure.subplots(1, 2)
    width = 1 / len(images)
    left = width * np.arange(len(images))
    filled = images > 0
    diagram.bar(left, accuracy, width, align="edge", edgecolor="white")
    diagram.plot(confidence[filled], confidence[filled], "o", color="tab:orange", markersize=4)
    diagram.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
    for mean_confidence, bin_accuracy in zip(confidence[filled], accuracy[filled], strict=True):
        ends = [bin_accuracy, mean_confidence]
        diagram.plot([mean_confidence, mean_confidence], ends, color="tab:orange")
    diagram.set(title="accuracy (bars) and confidence (dots)", ylim=(0, 1))
    histogram.bar(left, images, width, align="edge", edgecolor="white")
    histogram.set(title="images")
    for axes in (diagram, histogram):
        axes.set(xlabel="confidence", xlim=(0, 1))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
    diagram.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


def save(figure: Figure, path: Any) -> None:
    """Writes a complete PNG file, or none."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def escape_math(names: Iterable[str]) -> list[str]:
    """Escapes dollar signs, which start a formula in matplotlib's texts."""
    return [name.replace("$", r"\$") for name in names]
