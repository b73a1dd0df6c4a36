"""A float32 .tflite + images -> how to quantise its parts; parts that lose too much stay in float.

All of a ViT in int8 can be as bad as guessing: 0 % on ImageNet instead of 81.4 % was published. It
depends on the ranges that activations are quantised for, and on which parts are quantised. Both are
searched for in each file.
"""

import bisect
import dataclasses
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
from export.tflite.quantize import WEIGHTS, Plan, StaticQuantizer
from export.tflite.statistics import STATISTICS, THREADS

SCANNED = 16  # images on which plans are compared
GOOD_ENOUGH = 0.01  # distance from float32, of a classifier the probability that moves


class IntegerSearch:
    """The search for the plan by which a file is quantised.

    Accuracy is the endpoints' `quality` here, for a classifier the mean probability of the right
    class: it moves with every image, where the fraction of right answers moves in steps. A distance
    is the endpoints' `distance`, for a classifier the probability that moves to other classes.

    Args:
        source: the float32 file; max_drop of its options is used.
        quantizer: StaticQuantizer of the file as prepared for quantisation.
        path: the file to write, over and over.

    Attributes:
        tries: one {"parts_in_float", "accuracy"} for each number of parts that was tried.
        distances: {name of a part: distance of the answers when it alone is in integers}.
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

    def write_all(self) -> dict[str, Any]:
        """Writes the file with all parts in integers.

        Returns:
            {"images": {"calibration", "search": their source}, "weights": how they are rounded,
            "scan": [{"part", "statistic", "distance" or None, "in_float"}, ...] with the largest
            distance first, "search": [{"parts_in_float", "accuracy"}, ...] in the order of the
            tries, "accuracy": of the float32 file}.
        """
        plan = self._choose_statistics()
        self._passes(plan, ())
        return self._details(plan, [part.name for part in self.quantizer.parts], 0)

    def write(self) -> dict[str, Any]:
        """Writes the file with as few parts in float as keep the accuracy.

        Each part is quantised alone, and the parts that change the answers most stay in float:
        layers with weights keep these in 8 bits, and quantise their inputs at run time. Bisection
        finds how many have to. The layers of the blocks, nearly all of the arithmetic, are only
        tried where it is not enough to leave out everything else.

        Returns:
            what `write_all` does.
        """
        plan = self._choose_statistics()
        names = [part.name for part in self.quantizer.parts]
        if self._passes(plan, ()):
            return self._details(plan, names, 0)
        layers = [name for name in names if name.startswith("block_")]
        order = self._rank(plan, [name for name in names if name not in layers])
        in_float = self._bisect(plan, order, 1, len(order) + 1)
        if in_float > len(order):
            tried = len(order) + 1
            order = order + self._rank(plan, layers)
            in_float = self._bisect(plan, order, tried, len(order))
        self.quantizer.write(plan.without(order[:in_float]), self.path)
        return self._details(plan, order, in_float)

    def _choose_statistics(self) -> Plan:
        """The plan with all parts in integers whose answers are closest to float32's.

        All parts have the same statistic at first. Then each has the one that is best for it, the
        head first and the embedding last; the layers of the blocks change together.
        """
        few = self.images["search"].first(SCANNED)
        expected = self.expected[: len(few.pixels)]
        distances: dict[str, float] = {}

        def distance(plan):
            key = repr(plan)
            if key not in distances:
                self.quantizer.write(plan, self.path)
                distances[key] = self.endpoints.distance(self._answers(self.path, few), expected)
            return distances[key]

        plan = min((self.quantizer.plan(statistic) for statistic in STATISTICS), key=distance)
        plan = min((dataclasses.replace(plan, weights=name) for name in WEIGHTS), key=distance)
        for group in self._groups():
            if distance(plan) <= GOOD_ENOUGH:
                break
            others = (plan.with_parts(group, statistic) for statistic in STATISTICS)
            plan = min([plan, *others], key=distance)
        return plan

    def _groups(self) -> list[list[str]]:
        """The names of parts that change their statistic together, the last of the graph first."""
        groups: dict[str, list[str]] = {}
        for part in reversed(self.quantizer.parts):
            layer = part.name.startswith("block_")
            groups.setdefault("layers of blocks" if layer else part.name, []).append(part.name)
        return list(groups.values())

    def _rank(self, plan: Plan, names: Sequence[str]) -> list[str]:
        """The parts, the one with the largest distance first."""
        few = self.images["search"].first(SCANNED)
        expected = self.expected[: len(few.pixels)]
        progress = keras.utils.Progbar(
            len(names), unit_name="part", verbose=int(sys.stdout.isatty())
        )
        for number, name in enumerate(names):
            progress.update(number)
            self.quantizer.write(plan.only(name), self.path)
            answers = self._answers(self.path, few)
            self.distances[name] = self.endpoints.distance(answers, expected)
        progress.update(len(names))
        return sorted(names, key=lambda name: -self.distances[name])

    def _bisect(self, plan: Plan, order: Sequence[str], low: int, high: int) -> int:
        """The least number of parts, low to high, whose staying in float keeps the accuracy.

        `high` itself is not tried.
        """
        return bisect.bisect_left(
            range(high), True, lo=low, key=lambda in_float: self._passes(plan, order[:in_float])
        )

    def _passes(self, plan: Plan, float_parts: Sequence[str]) -> bool:
        self.quantizer.write(plan.without(float_parts), self.path)
        accuracy = self._accuracy(self._answers(self.path, self.images["search"]))
        self.tries.append({"parts_in_float": len(float_parts), "accuracy": accuracy})
        return accuracy >= self.needed

    def _details(self, plan: Plan, order: Sequence[str], in_float: int) -> dict[str, Any]:
        return {
            "images": {name: self.images[name].source for name in ("calibration", "search")},
            "weights": plan.weights,
            "scan": [
                {
                    "part": name,
                    "statistic": plan.statistics[name],
                    "distance": self.distances.get(name),
                    "in_float": place < in_float,
                }
                for place, name in enumerate(order)
            ],
            "search": self.tries,
            "accuracy": self.accuracy,
        }

    def _accuracy(self, answers: np.ndarray) -> float:
        return self.endpoints.quality(answers, self.expected, self.images["search"].labels)

    def _answers(self, path: pathlib.Path, images: Images) -> np.ndarray:
        interpreter = Interpreter(str(path), num_threads=THREADS)
        answers = ask_tflite(interpreter, images.pixels, images.mean, images.std)
        return answers[self.endpoints.output]
