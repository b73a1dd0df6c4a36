"""A float32 .tflite + images -> one in integers; parts that lose too much accuracy stay in float.

All of a ViT in int8 can be as bad as guessing: 0 % on ImageNet instead of 81.4 % was published.
Which parts are to blame depends on the weights, so they are searched for in each file.
"""

import bisect
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from export.checks.run_standalone import ask_tflite
from export.endpoints import endpoints_of
from export.images import Images
from export.source import Source
from export.tflite.quantize import THREADS, Part, StaticQuantizer
from export.tflite.smooth_quant import smooth_channels
from vit_keras.utils.files import temporary_folder

SCANNED = 32  # images on which each part is tried alone


def write_int8(source: Source, path: pathlib.Path) -> dict[str, Any]:
    """Writes the file in int8, with as few parts in float as keep the accuracy.

    The file is smoothed first. Then each part is quantised alone, and the answers to a few images
    are compared with those of the float32 file. The parts that change them most stay in float:
    layers with weights keep these in 8 bits, and quantise their inputs at run time, for each image.
    Bisection finds how many have to. The layers of the blocks, nearly all of the arithmetic, are
    only tried where it is not enough to leave out everything else.

    Accuracy is the endpoints' `quality` here, for a classifier the mean probability of the right
    class: it moves with every image, where the fraction of right answers moves in steps.

    Args:
        source: the float32 file; max_drop of its options is used.
        path: the file to write.

    Returns:
        {"images": {"calibration", "search": their source}, "scan": [{"part", "distance",
        "in_float"}, ...] with the largest distance first, "search": [{"parts_in_float",
        "accuracy"}, ...] in the order of the tries, "accuracy": of the float32 file}. A distance is
        the endpoints' `distance`, for a classifier the probability that moves to other classes.
    """
    with temporary_folder() as folder:
        smoothed = folder / "smoothed"
        smooth_channels(source.path, smoothed, source.images["calibration"])
        quantizer = StaticQuantizer(smoothed, source.images["calibration"], 8)
        return Int8Search(source, quantizer, path).run()


class Int8Search:
    """The search for the parts of a file that have to stay in float.

    Args:
        source: the float32 file.
        quantizer: StaticQuantizer of the smoothed file.
        path: the file to write, over and over.

    Attributes:
        tries: one {"parts_in_float", "accuracy"} for each number of parts that was tried.
        distances: {name of a part: distance of the answers when it alone is in int8}.
    """

    def __init__(self, source: Source, quantizer: StaticQuantizer, path: pathlib.Path) -> None:
        self.endpoints = endpoints_of(source.model)
        self.images = source.images
        self.quantizer = quantizer
        self.path = path
        self.expected = self._answers(source.path, source.images["search"])
        self.accuracy = self._accuracy(self.expected)
        self.needed = self.accuracy - source.options.max_drop
        self.tries: list[dict[str, Any]] = []
        self.distances: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Searches, writes the file, and returns what `write_int8` does."""
        layers = [part for part in self.quantizer.parts if part.name.startswith("block_")]
        order = self._rank([part for part in self.quantizer.parts if part not in layers])
        in_float = self._bisect(order, 0, len(order) + 1)
        if in_float > len(order):
            tried = len(order) + 1
            order = order + self._rank(layers)
            in_float = self._bisect(order, tried, len(order))
        self._write(order[:in_float])
        return {
            "images": {
                name: images.source for name, images in self.images.items() if name != "evaluation"
            },
            "scan": [
                {
                    "part": part.name,
                    "distance": self.distances[part.name],
                    "in_float": place < in_float,
                }
                for place, part in enumerate(order)
            ],
            "search": self.tries,
            "accuracy": self.accuracy,
        }

    def _rank(self, parts: Sequence[Part]) -> list[Part]:
        """The parts, the one with the largest distance first."""
        few = self.images["search"].first(SCANNED)
        expected = self.expected[: len(few.pixels)]
        progress = keras.utils.Progbar(
            len(parts), unit_name="part", verbose=int(sys.stdout.isatty())
        )
        for number, part in enumerate(parts):
            progress.update(number)
            self.quantizer.write([part], self.path)
            answers = self._answers(self.path, few)
            self.distances[part.name] = self.endpoints.distance(answers, expected)
        progress.update(len(parts))
        return sorted(parts, key=lambda part: -self.distances[part.name])

    def _bisect(self, order: Sequence[Part], low: int, high: int) -> int:
        """The least number of parts, low to high, whose staying in float keeps the accuracy.

        `high` itself is not tried.
        """
        return bisect.bisect_left(
            range(high), True, lo=low, key=lambda in_float: self._passes(order[:in_float])
        )

    def _passes(self, float_parts: Sequence[Part]) -> bool:
        self._write(float_parts)
        accuracy = self._accuracy(self._answers(self.path, self.images["search"]))
        self.tries.append({"parts_in_float": len(float_parts), "accuracy": accuracy})
        return accuracy >= self.needed

    def _write(self, float_parts: Sequence[Part]) -> None:
        parts = [part for part in self.quantizer.parts if part not in float_parts]
        self.quantizer.write(parts, self.path)

    def _accuracy(self, answers: np.ndarray) -> float:
        return self.endpoints.quality(answers, self.expected, self.images["search"].labels)

    def _answers(self, path: pathlib.Path, images: Images) -> np.ndarray:
        interpreter = Interpreter(str(path), num_threads=THREADS)
        answers = ask_tflite(interpreter, images.pixels, images.mean, images.std)
        return answers[self.endpoints.output]
