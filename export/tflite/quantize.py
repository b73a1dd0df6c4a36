"""A float32 .tflite + images -> the same model in fewer bits: half floats, dynamic int8, integers.

LiteRT Quantizer makes every kind from the same float32 file.
"""

import contextlib
import dataclasses
import io
import pathlib
import re
import warnings
from collections.abc import Collection, Iterator, Mapping

from litert_quantizer import qtyping, quantizer
from litert_quantizer.algorithm_manager import AlgorithmName

from export.source import Source
from export.tflite.parts import WEIGHTED, find_parts
from export.tflite.statistics import Ranges

# How weights are rounded: by their largest value, or clipped where that is less wrong on average
# (OCTAV, arXiv:2206.06501).
WEIGHTS = {"largest": AlgorithmName.MIN_MAX_UNIFORM_QUANT, "octav": AlgorithmName.OCTAV}
# At 16 bits the ranges are widened: what an image exceeds is clipped, and steps are small enough.
HEADROOM = {8: 1.0, 16: 1.5}

BY_ROW, WHOLE = qtyping.QuantGranularity.CHANNELWISE, qtyping.QuantGranularity.TENSORWISE
_WEIGHTS = qtyping.TensorQuantizationConfig(num_bits=8, symmetric=True, granularity=BY_ROW)
_TYPES = {
    "int8": qtyping.TensorQuantizationConfig(num_bits=8, symmetric=False),
    "uint8": qtyping.TensorQuantizationConfig(
        num_bits=8, symmetric=False, dtype=qtyping.TensorDataType.UINT
    ),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the parts of a file are quantised.

    Attributes:
        statistics: {name of a part: the statistic by which its results are quantised, a key of
            STATISTICS}; parts that are not in it stay in float, with weights as in `write_dynamic`.
        weights: a key of WEIGHTS.
    """

    statistics: Mapping[str, str]
    weights: str = "largest"

    def with_parts(self, parts: Collection[str], statistic: str) -> "Plan":
        """The plan with another statistic for some parts."""
        changed = dict.fromkeys(parts, statistic)
        return dataclasses.replace(self, statistics={**self.statistics, **changed})

    def without(self, parts: Collection[str]) -> "Plan":
        """The plan with some parts in float."""
        left = {part: name for part, name in self.statistics.items() if part not in parts}
        return dataclasses.replace(self, statistics=left)

    def only(self, part: str) -> "Plan":
        """The plan with all other parts in float."""
        return dataclasses.replace(self, statistics={part: self.statistics[part]})


class StaticQuantizer:
    """Quantises weights and activations of chosen parts of a float32 file.

    Args:
        path: the .tflite file.
        statistics: of its tensors, what `gather_statistics` returns.
        bits: of the activations, 8 or 16.
        in_float: names of parts that always stay in float.
        ends: {"INPUT", "OUTPUT": "int8" or "uint8"}, the types of a file that takes and returns
            integers; {} for one whose ends stay as they are.

    Attributes:
        parts: the parts that can be quantised.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        statistics: Mapping[str, Ranges],
        bits: int,
        in_float: Collection[str] = (),
        ends: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.statistics = statistics
        self.bits = bits
        self.ends = ends or {}
        self.parts = [part for part in find_parts(path, bits) if part.name not in in_float]

    def plan(self, statistic: str) -> Plan:
        """The plan with all parts in integers, by one statistic."""
        return Plan({part.name: statistic for part in self.parts})

    def write(self, plan: Plan, path: str | pathlib.Path) -> None:
        """Writes the file as planned."""
        recipe = _dynamic(self.path)
        for part in self.parts:
            if part.name in plan.statistics:
                self._add(recipe, part, plan)
        for end, dtype in self.ends.items():
            config = _static(_TYPES[dtype])
            recipe.update_quantization_recipe(".*", qtyping.TFLOperationName(end), config)
        _write(recipe, path, self._ranges(plan))

    def _add(self, recipe, part, plan):
        activations = qtyping.TensorQuantizationConfig(self.bits, symmetric=self.bits == 16)
        for operation, tensors in part.operations.items():
            names = "|".join(map(re.escape, tensors))
            algorithm = WEIGHTS[plan.weights if operation in WEIGHTED else "largest"]
            recipe.update_quantization_recipe(
                f"^({names});",
                qtyping.TFLOperationName(operation),
                _static(activations),
                algorithm,
            )

    def _ranges(self, plan: Plan) -> Ranges:
        """{tensor: its range by the statistic of the part that computes it}."""
        ranges = dict(self.statistics["range"])
        for part in self.parts:
            statistic = self.statistics[plan.statistics.get(part.name, "range")]
            for tensors in part.operations.values():
                ranges |= {name: statistic[name] for name in tensors if name in statistic}
        headroom = HEADROOM[self.bits]
        return {
            tensor: {end: value * headroom for end, value in limits.items()}
            for tensor, limits in ranges.items()
        }


def _static(activations):
    return qtyping.OpQuantizationConfig(
        activation_tensor_config=activations,
        weight_tensor_config=_WEIGHTS,
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )


def write_float16(source: Source, path: pathlib.Path) -> None:
    """Writes weights in half precision, a file half as large; arithmetic stays in float32."""
    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights,
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    recipe = quantizer.Quantizer(str(source.path))
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    recipe.update_quantization_recipe(".*", everything, config, AlgorithmName.FLOAT_CASTING)
    _write(recipe, path)


def write_dynamic(source: Source, path: pathlib.Path) -> None:
    """Writes weights in 8 bits; their inputs are quantised at run time, for each image.

    Every row of a weight has its own scale, which runtimes before TensorFlow Lite 2.17 compute
    wrongly, without an error. For these, `least_runtime`, a weight has one scale.
    """
    _write(_dynamic(source.path, WHOLE if source.options.least_runtime else BY_ROW), path)


def _dynamic(path, granularity=BY_ROW):
    recipe = quantizer.Quantizer(str(path))
    for operation in WEIGHTED:
        recipe.add_dynamic_config(".*", operation, num_bits=8, granularity=granularity)
    return recipe


def _write(recipe, path, statistics=None):
    with _quiet():
        result = recipe.quantize(statistics, enable_progress_report=False)
    pathlib.Path(path).write_bytes(result.quantized_model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the progress bars of the quantiser, and a warning of the interpreter that it makes."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
