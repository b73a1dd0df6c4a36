"""Numbers of a run -> Figures: curves, confusion matrix, worst mistakes, calibration, seeds."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from vit_keras.utils.files import replacing

MISTAKES = 24  # on the sheet
matplotlib.use("Agg")


def curves(panels, along):
    """Lines of several panels, two in a row -> Figure

    Args:
        panels: {title: {label: (x values, y values)}}; titles with "accuracy" are of fractions.
        along: "epoch", or what else the x values are, which then has a logarithmic scale.
    """
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(10, 3.3 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.axis("off")
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        for label, values in lines.items():
            # A single epoch is a point, which no line goes through.
            axes.plot(*values, label=label, marker="." if len(values[0]) < 20 else "")
        _dress(axes, title, along)
        if len(lines) > 1:
            axes.legend()
    return figure


def seeds(groups, title):
    """Of each group the mean of its runs over epochs, in the band that they span -> Figure

    Args:
        groups: {label: [(epochs, values) of a run, ...]}.
        title: of the values.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, runs in groups.items():
        found: dict[float, list[float]] = {}
        for epoch, value in (point for run in runs for point in zip(*run, strict=True)):
            found.setdefault(epoch, []).append(value)
        means = [np.mean(values) for values in found.values()]
        count = f"{len(runs)} run{'s' * (len(runs) > 1)}"
        (line,) = axes.plot(list(found), means, marker=".", label=f"{label}, {count}")
        low, high = zip(*((min(values), max(values)) for values in found.values()), strict=True)
        axes.fill_between(list(found), low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    _dress(axes, title, "epoch")
    axes.legend()
    return figure


def _dress(axes, title, along):
    axes.set(title=title, xlabel=along)
    axes.grid(alpha=0.3)
    if along == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_xscale("log")
    if "accuracy" in title:
        axes.yaxis.set_major_formatter(PercentFormatter(1))


def confusion(probabilities, examples):
    """Counts of true against predicted class -> Figure; unlabelled above 40 classes"""
    classes = np.arange(len(examples.class_names))
    matrix = confusion_matrix(examples.labels, probabilities.argmax(axis=1), labels=classes)
    labelled = len(classes) <= 40
    side = max(5, min(16, 2 + 0.45 * len(classes)))
    figure = Figure(figsize=(side, side), layout="constrained")
    ConfusionMatrixDisplay(
        matrix, display_labels=plain(examples.class_names) if labelled else None
    ).plot(
        ax=figure.subplots(),
        include_values=labelled,
        cmap="Blues",
        colorbar=False,
        xticks_rotation="vertical",
    )
    return figure


def mistakes(probabilities, examples):
    """The images whose wrong class got the highest probabilities -> Figure"""
    predicted = probabilities.argmax(axis=1)
    confidence = np.where(predicted == examples.labels, -1.0, probabilities.max(axis=1))
    worst = np.argsort(-confidence)[: min(MISTAKES, (confidence >= 0).sum())]
    columns = 6
    rows = max(1, -(-len(worst) // columns))
    figure = Figure(figsize=(1.8 * columns, 2.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    names = plain(examples.class_names)
    for axes, index in zip(grid, worst, strict=False):
        image = np.asarray(examples.read(index))
        axes.imshow(image, cmap="gray" if image.shape[-1] == 1 else None)
        true, wrong = names[examples.labels[index]], names[predicted[index]]
        axes.set_title(f"{true}\ntaken for {wrong}, {confidence[index]:.0%}", fontsize=7.5)
    if not len(worst):
        grid[0].text(0, 0.5, "no mistakes")
    return figure


def calibration(images, accuracy, confidence):
    """A reliability diagram, and how many images it is of -> Figure

    Args:
        images, accuracy, confidence: (bins,) as `metrics.reliability` returns them.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    diagram, histogram = figure.subplots(1, 2)
    width = 1 / len(images)
    left = width * np.arange(len(images))
    some = images > 0
    diagram.bar(left, accuracy, width, align="edge", edgecolor="white")
    diagram.plot(confidence[some], confidence[some], "o", color="tab:orange", markersize=4)
    diagram.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
    for x, low, high in zip(confidence[some], accuracy[some], confidence[some], strict=True):
        diagram.plot([x, x], [low, high], color="tab:orange")
    diagram.set(title="accuracy (bars) and confidence (dots)", ylim=(0, 1))
    histogram.bar(left, images, width, align="edge", edgecolor="white")
    histogram.set(title="images")
    for axes in (diagram, histogram):
        axes.set(xlabel="confidence", xlim=(0, 1))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
    diagram.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


def save(figure, path):
    """Writes a PNG file, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def plain(names):
    """Class names without what matplotlib takes for mathematics."""
    return [name.replace("$", r"\$") for name in names]
