"""A float32 .tflite + images -> one of integers, but for what would lose too much accuracy.

All of a ViT in int8 can be as good as guessing: 0 % of ImageNet instead of 81.4 % was published.
Which parts are to blame depends on the weights, so each file is searched for them.
"""

import bisect
import pathlib
import sys
import tempfile

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from export.checks.run_standalone import ask_tflite
from export.tflite.quantize import THREADS, StaticQuantizer
from export.tflite.smooth_quant import smooth

SCANNED = 32  # images on which each part is tried alone


def write_int8(source, path, images, options):
    """Smooths the file, quantises every part, and then takes back as few as keep the accuracy.

    Each part is first quantised alone, and the answers to a few images are compared with those of
    the float32 file. In the order of what they change, parts are left in float: of layers with
    weights, these stay in 8 bits and what they multiply is quantised anew for each image. How many
    have to be left is found by bisection. The layers of the blocks, nearly all of the arithmetic,
    are only tried where it is not enough to leave out everything else.

    Accuracy is here the mean probability of the right class: it moves with every image, where a
    few hundred images alone change their most probable class by chance.

    Args:
        source: the float32 file.
        path: the file to write.
        images: {"calibration", "search": Images}.
        options: Options, of which max_drop counts.

    Returns:
        {"images": {"calibration", "search"}, "scan": [{"part", "distance", "in_float"}, ...], the
        worst first, "search": [{"parts_in_float", "accuracy"}, ...] in the order of the tries, and
        "accuracy", that of the float32 file}. A distance is the part of the probability that moves
        to other classes.
    """
    with tempfile.TemporaryDirectory() as folder:
        smoothed = pathlib.Path(folder) / "smoothed"
        smooth(source, smoothed, images["calibration"])
        static = StaticQuantizer(smoothed, images["calibration"], 8)
        return _search(static, source, path, images, options.max_drop)


def _search(static, source, path, images, max_drop):
    search = images["search"]
    expected = _classify(source, search)
    labels = expected.argmax(axis=1) if search.labels is None else search.labels
    few = search.first(SCANNED)
    distances: dict[str, float] = {}
    tries: list[dict] = []

    def accuracy(probabilities):
        return float(np.take_along_axis(probabilities, labels[:, np.newaxis], axis=1).mean())

    def ranked(parts):
        """The parts, the one that does most harm alone first"""
        progress = keras.utils.Progbar(
            len(parts), unit_name="part", verbose=int(sys.stdout.isatty())
        )
        for number, part in enumerate(parts):
            progress.update(number)
            static.write([part], path)
            moved = np.abs(_classify(path, few) - expected[: len(few.pixels)])
            distances[part.name] = float(moved.sum(axis=1).mean() / 2)
        progress.update(len(parts))
        return sorted(parts, key=lambda part: -distances[part.name])

    def write(in_float):
        static.write([part for part in static.parts if part not in order[:in_float]], path)

    def passes(in_float):
        write(in_float)
        tries.append({"parts_in_float": in_float, "accuracy": accuracy(_classify(path, search))})
        return tries[-1]["accuracy"] >= accuracy(expected) - max_drop

    layers = [part for part in static.parts if part.name.startswith("block_")]
    others = order = ranked([part for part in static.parts if part not in layers])
    in_float = bisect.bisect_left(range(len(others) + 1), True, key=passes)
    if in_float > len(others):
        order = others + ranked(layers)
        in_float = bisect.bisect_left(range(len(order)), True, lo=len(others) + 1, key=passes)
    write(in_float)
    return {
        "images": {name: found.source for name, found in images.items() if name != "evaluation"},
        "scan": [
            {"part": part.name, "distance": distances[part.name], "in_float": place < in_float}
            for place, part in enumerate(order)
        ],
        "search": tries,
        "accuracy": accuracy(expected),
    }


def _classify(path, images):
    interpreter = Interpreter(str(path), num_threads=THREADS)
    return ask_tflite(interpreter, images.pixels, images.mean, images.std)["probabilities"]
