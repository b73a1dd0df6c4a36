"""Trained models and other people's .tflite files -> accuracy against milliseconds, in one run.

python -m benchmarks.phones --out FOLDER --peers mobilenet.tflite \
    --models runs/merge0/model.keras runs/merge13/model.keras runs/merge16/model.keras

The models are linear probes on one data set, one of them without merged tokens. A peer is an
ImageNet classifier of this size that takes uint8: the same logistic regression is fitted to the
features before its classifier, on the same training images. Everything is judged on the same test
images, in LiteRT. A Ti/16 with random weights is timed in the same forms.

Files take turns in one process with one thread, on one test image after another. CPU time is the
median of all turns, and the ratio that of the ratios of each round. A peer is timed with its own
classifier of 1,001 classes, which takes less than half a percent of its arithmetic. --out keeps
files and answers: a later call continues.
"""

import argparse
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from matplotlib.figure import Figure
from tabulate import tabulate

from benchmarks.artefacts import randomised
from benchmarks.features import features_of
from benchmarks.machine import describe_machine
from benchmarks.runtimes import WARM_UP, litert
from benchmarks.turns import alternating
from export.checks.run_standalone import ask_tflite
from export.checks.verify import Samples
from export.endpoints import endpoints_of
from export.export import prepared
from export.formats import FORMATS
from export.images import Images, load_images
from export.options import Options
from export.subject import Subject
from training.data.examples import Examples
from training.data.splits import load_splits
from training.model.linear_probe import best_probe, fit_probes
from training.recipe import read_recipe, run_of
from vit_keras import ViT, build_vit
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.model import load_model
from vit_keras.utils.statistics import change_of_accuracy

MERGED_KINDS = ("float32", "dynamic")
KINDS = (*MERGED_KINDS, "int8", "int8-full")  # of models without merged tokens
TIMED_MERGES = (0, 13, 16, 20)  # of the Ti/16


class File(NamedTuple):
    """A file to measure.

    Attributes:
        size: of the model, such as "S/14"; a peer's file name.
        merged: patches that each block merges.
        kind: of quantisation; "" for a peer.
        path: of the .tflite file.
        right: bool (images,), whether its answers are right; None for random weights.
    """

    size: str
    merged: int
    kind: str
    path: pathlib.Path
    right: np.ndarray | None


def main() -> None:
    """Writes, judges and times the files; prints the table and draws the curve."""
    arguments = _parser().parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    models = {path: load_model(path) for path in arguments.models}
    images = load_images(next(iter(models.values())), arguments.models[0])
    files: list[File] = []
    for path, model in models.items():
        files += write_files(model, images, arguments.out, path.parent.name)
    for path in arguments.peers:
        answers = arguments.out / f"{path.stem}.npy"
        if not answers.exists():
            np.save(answers, judge_peer(path, arguments.models[0], images["evaluation"]))
        files.append(File(path.stem, 0, "", path, np.load(answers)))
    files += write_timed_files(images, arguments.out)
    milliseconds = measure(files, images["evaluation"].pixels, arguments.rounds, arguments.runs)
    rows = [_row(number, files, milliseconds) for number in range(len(files))]
    print(describe_machine("tensorflow", "ai-edge-litert", "litert-quantizer", "numpy"), end="; ")
    print(f"{arguments.rounds} rounds of {arguments.runs} images\n")
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))
    if arguments.picture:
        draw(files, np.median(milliseconds, axis=0)).savefig(arguments.picture, dpi=90)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.phones")
    parser.add_argument("--models", nargs="+", type=pathlib.Path, required=True)
    parser.add_argument("--peers", nargs="+", type=pathlib.Path, default=[])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="keeps files and answers")
    parser.add_argument("--picture", type=pathlib.Path, help="a .png or .svg to draw the curve in")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each file; 15")
    parser.add_argument("--runs", type=int, default=5, help="images of a turn; 5")
    return parser


def write_files(model: ViT, images: dict[str, Images], out: pathlib.Path, name: str) -> list[File]:
    """Writes a trained model in the kinds for it, and asks each file about the test images."""
    merged = model.config.merge_tokens
    files = []
    for kind, path in write_kinds(model, images, out, name, MERGED_KINDS if merged else KINDS):
        files.append(File(_size(model), merged, kind, path, judge(path, images["evaluation"])))
    return files


def write_timed_files(images: dict[str, Images], out: pathlib.Path) -> list[File]:
    """Writes a Ti/16 with random weights in the same forms, to be timed only."""
    files = []
    for merged in TIMED_MERGES:
        model = randomised(build_vit("vit_ti16", num_classes=10, merge_tokens=merged))
        kinds = MERGED_KINDS if merged else (*MERGED_KINDS, "int8-full")
        for kind, path in write_kinds(model, images, out, f"ti16-{merged}", kinds):
            files.append(File(_size(model), merged, kind, path, None))
    return files


def write_kinds(
    model: ViT, images: dict[str, Images], out: pathlib.Path, name: str, kinds: Sequence[str]
) -> list[tuple[str, pathlib.Path]]:
    """Writes a model in several kinds where they are not there yet; returns kinds and paths."""
    paths = {kind: out / f"{name}-{kind}.tflite" for kind in kinds}
    if not all(path.exists() for path in paths.values()):
        options, evaluation = Options(), images["evaluation"]
        inference = endpoints_of(model).inference_model(model)
        samples = Samples([], evaluation.pixels, evaluation.labels, {}, evaluation.source)
        with prepared(Subject(inference, images, samples, options), "tflite") as source:
            for kind, path in paths.items():
                start = time.process_time()
                FORMATS["tflite"].kinds[kind].write(source, path)
                FORMATS["tflite"].finish(inference, path, options)
                print(f"{path.name}: written in {time.process_time() - start:.0f} CPU seconds")
    return list(paths.items())


def _size(model: ViT) -> str:
    names = {192: "Ti", 384: "S", 768: "B"}
    width, patch = model.config.width, model.config.patch_size
    return f"{names.get(width, width)}/{patch}"


def judge(path: pathlib.Path, images: Images) -> np.ndarray:
    """Whether a file's answers are right, bool (images,)."""
    answers = path.with_suffix(".npy")
    if not answers.exists():
        interpreter = Interpreter(str(path), num_threads=2)
        (probabilities,) = ask_tflite(interpreter, images.pixels).values()
        np.save(answers, probabilities.argmax(axis=1) == images.labels)
    return np.load(answers)


def judge_peer(path: pathlib.Path, model_path: pathlib.Path, test: Images) -> np.ndarray:
    """Fits a logistic regression to a peer's features; whether it is right, bool (images,).

    Args:
        path: of the peer's file.
        model_path: of a model of this project, trained on the same images.
        test: Images.
    """
    recipe, preprocessing = (
        read_recipe(run_of(model_path).config),
        load_model(model_path).preprocessing,
    )
    splits = load_splits(recipe.data, recipe.model.channels, recipe.execution.seed)
    train, validation = (
        _features(path, splits[name], preprocessing) for name in ("train", "validation")
    )
    probe = best_probe(fit_probes(train, validation))
    logits = features_of(path, test.pixels) @ probe.kernel + probe.bias
    return logits.argmax(axis=1) == test.labels


def _features(
    path: pathlib.Path, examples: Examples, preprocessing: Preprocessing
) -> tuple[np.ndarray, np.ndarray]:
    """The features of all images, resized as for this project's models, and their labels."""
    dataset = tf.data.Dataset.range(len(examples)).map(
        lambda index: preprocessing.to_size(examples.read(index)), tf.data.AUTOTUNE
    )
    pixels = np.empty((len(examples), *preprocessing.image_size, preprocessing.channels), "uint8")
    for row, image in zip(pixels, dataset.as_numpy_iterator(), strict=True):
        row[...] = np.clip(np.round(image), 0, 255)
    return features_of(path, pixels), examples.labels


def measure(files: Sequence[File], pixels: np.ndarray, rounds: int, runs: int) -> np.ndarray:
    """Lets the files take turns on the images; returns CPU milliseconds (rounds, files)."""
    classifiers = {number: litert(file.path, threads=1) for number, file in enumerate(files)}
    for classify in classifiers.values():
        for image in pixels[:WARM_UP]:
            classify(image[np.newaxis])
    milliseconds = np.empty((rounds, len(files)))
    for turn in range(rounds):
        images = np.take(pixels, range(turn * runs, (turn + 1) * runs), axis=0, mode="wrap")
        for number in alternating(classifiers, turn):
            times = []
            for image in images:
                start = time.process_time()
                classifiers[number](image[np.newaxis])
                times.append(time.process_time() - start)
            milliseconds[turn, number] = 1000 * np.median(times)
    return milliseconds


def _reference(number: int, files: Sequence[File]) -> int:
    """The number of the float32 file of the same size without merged tokens; a peer's own."""
    for other, file in enumerate(files):
        if (file.size, file.merged, file.kind) == (files[number].size, 0, "float32"):
            return other
    return number


def _row(number: int, files: Sequence[File], milliseconds: np.ndarray) -> dict[str, Any]:
    """A row of the table."""
    file, reference = files[number], _reference(number, files)
    ratio = np.median(milliseconds[:, number] / milliseconds[:, reference])
    row = {
        "model": file.size,
        "merged": file.merged,
        "kind": file.kind,
        "MB": f"{file.path.stat().st_size / 1e6:.1f}",
        "CPU ms": f"{np.median(milliseconds[:, number]):.1f}",
        "of float32": f"{ratio:.2f}",
        "accuracy": "",
        "change, points (95 %)": "",
    }
    if file.right is not None:
        row["accuracy"] = f"{file.right.mean():.1%}"
        before = files[reference].right
        if before is not None and number != reference:
            change = 100 * np.array(change_of_accuracy(before, file.right))
            row["change, points (95 %)"] = "{:+.1f} ({:+.1f} to {:+.1f})".format(*change)
    return row


def draw(files: Sequence[File], milliseconds: np.ndarray) -> Figure:
    """Draws accuracy against CPU milliseconds, a line for each kind with its merged tokens."""
    lines: dict[str, list[tuple[float, float, str]]] = {}
    for file, time_of_file in zip(files, milliseconds, strict=True):
        if file.right is not None:
            name = f"{file.size}, {file.kind}" if file.kind else file.size
            note = f"{file.merged} merged" if file.merged else ""
            lines.setdefault(name, []).append((time_of_file, 100 * file.right.mean(), note))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        times, accuracies, notes = zip(*sorted(points), strict=True)
        axes.plot(times, accuracies, "o-", label=name)
        for point in zip(times, accuracies, notes, strict=True):
            axes.annotate(point[2], point[:2], (4, 4), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", xlabel="CPU ms an image, one thread", ylabel="test accuracy, %")
    axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
