"""Weights and a model -> the model with these weights: resized, checked, and only then set."""

import dataclasses
import re
from collections.abc import Iterable, Iterator

import numpy as np

from vit_keras.config import ViTConfig
from vit_keras.layers.positions import resize_patches, resize_positions
from vit_keras.model import ViT
from vit_keras.utils.errors import InputError
from vit_keras.weights.assumption import Assumption, describe
from vit_keras.weights.checkpoint import shorten
from vit_keras.weights.families.family import PRE_TRAINING
from vit_keras.weights.families.name_table import PATCH_KERNEL, POSITIONS, rows_by_source_name
from vit_keras.weights.read import Weights

_HEAD = re.compile(r"(head|head_dist|pre_logits|pre_logits_dist)/")
_DECODER = re.compile(r"(decoder_\w+|fill_in|reconstruction)/|patch_encoder/mask$")


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """The result of `load_weights`.

    Attributes:
        source: where the weights came from.
        family: "google", "timm", "huggingface", "facebook" or "keras".
        loaded: number of variables set.
        changes: sentences about what was resized or replaced.
        left_out: {source name: why}, arrays of the checkpoint that no model here has.
        assumptions: values that neither the checkpoint nor the caller specifies.
    """

    source: str
    family: str
    loaded: int
    changes: tuple[str, ...] = ()
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    assumptions: tuple[Assumption, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.loaded} variables from {self.source} ({self.family})",
            *self.changes,
            *describe(self.assumptions),
        ]
        if self.left_out:
            lines.append(f"left out: {shorten(self.left_out)}")
        return "\n".join(lines)


def assign(model: ViT, weights: Weights, keep_head: bool) -> LoadReport:
    """Checks every array against every variable, and only then sets them all.

    Args:
        model: its weights are set.
        weights: of a model of the same shape; image size and patch size may differ.
        keep_head: leave the model's head as it is.

    Returns:
        LoadReport.

    Raises:
        InputError: if anything does not fit; no variable is changed then.
    """
    arrays, changes = _resize(weights, model.config)
    variables = {variable.path: variable for variable in model.weights}
    left_out = dict(weights.left_out)
    if not any(_DECODER.match(name) for name in variables):
        decoder_names = [name for name in arrays if _DECODER.match(name)]
        left_out.update(dict.fromkeys(decoder_names, PRE_TRAINING))
        arrays = {name: array for name, array in arrays.items() if not _DECODER.match(name)}
    if keep_head:
        arrays = {name: array for name, array in arrays.items() if not _HEAD.match(name)}
        variables = {name: v for name, v in variables.items() if not _HEAD.match(name)}
        # Masked pre-training does not train a pooling with weights: it is new like the head.
        if _has_pool(variables) and not _has_pool(arrays):
            variables = {name: v for name, v in variables.items() if not name.startswith("pool/")}
            changes.append("the pooling is new, to be trained")
    _check(variables, arrays, weights)
    for name, variable in variables.items():
        variable.assign(arrays[name].reshape(variable.shape))
    return LoadReport(
        weights.source,
        weights.family,
        loaded=len(variables),
        changes=tuple(changes),
        left_out=left_out,
        assumptions=weights.assumptions,
    )


def _has_pool(names):
    return any(name.startswith("pool/") for name in names)


def _resize(weights: Weights, config: ViTConfig):
    """The arrays resized to the config's grid and patches, and sentences about it."""
    arrays, changes = dict(weights.arrays), []
    old, new = weights.config.grid, config.grid
    tables = [name for name in (POSITIONS, "fill_in/positions") if name in arrays]
    if tables and old != new:
        method = (config if weights.family == "keras" else weights.config).position_resize
        for name in tables:
            arrays[name] = resize_positions(arrays[name][0], old, new, method)[np.newaxis]
        changes.append(f"positions resized from {_by(old)} to {_by(new)} patches ({method})")
    kernel = arrays.get(PATCH_KERNEL)
    if kernel is not None and kernel.ndim == 4 and config.patch_size != weights.config.patch_size:
        side = config.patch_size // config.stem_stride
        arrays[PATCH_KERNEL] = resize_patches(kernel, side, weights.patch_resize)
        changes.append(
            f"patches resampled from {_by(kernel.shape[:2])} to {side}x{side} pixels "
            f"({weights.patch_resize})"
        )
    return arrays, changes


def _by(sides):
    return "x".join(map(str, sides))


def _check(variables, arrays, weights):
    """Checks that every variable has an array of its shape, and every array a variable.

    Raises:
        InputError: listing everything that does not fit, grouped.
    """
    layers = {name.rpartition(".")[0] for name in weights.source_names}

    def source_names(name):
        """Source names of a variable: of alternatives, the one whose layer is in the file."""
        alternatives = list(rows_by_source_name(weights.rows, name)) or [name]
        in_file = [name for name in alternatives if name.rpartition(".")[0] in layers]
        return in_file or alternatives

    missing = [
        source_name
        for name in variables
        if name not in arrays
        for source_name in source_names(name)
        if source_name not in weights.source_names
    ]
    unused = list(weights.unknown_names)
    for name in arrays:
        if name not in variables:
            unused += source_names(name)
    wrong = [
        f"{', '.join(source_names(name))} ({_by(arrays[name].shape)} for {_by(variable.shape)})"
        for name, variable in variables.items()
        if name in arrays and not _same_shape(arrays[name], variable)
    ]
    problems = {"missing": missing, "not used": unused, "of another shape": wrong}
    if missing or unused or wrong:
        raise InputError(
            f"{weights.source} ({weights.family}) does not fit the model. In the checkpoint's "
            f"names, {_list(problems)}. {_advice([*missing, *unused, *wrong])}"
        )


def _list(problems):
    return "; ".join(
        f"{problem}: {shorten(_group(names))}" for problem, names in problems.items() if names
    )


def _advice(names):
    if all(re.search("head|classifier|pre_logits", name) for name in names):
        return "For a new head give from_weights num_classes=N, or load_weights keep_head=True."
    return "Let vit_keras.from_weights build the model, or compare its ViTConfig."


def _same_shape(array, variable):
    if array.ndim == 4 and len(variable.shape) == 2:  # the patch kernel
        return (array.size // array.shape[-1], array.shape[-1]) == tuple(variable.shape)
    return array.shape == tuple(variable.shape)


def _group(names: Iterable[str]) -> Iterator[str]:
    """Names that differ in one number, as one: blocks.{0-11}.norm1.weight."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        before, *rest = re.split(r"(?<=[._])(\d+)(?=[./])", name, maxsplit=1)
        groups.setdefault((before, *rest[1:]), []).extend(rest[:1])
    for (before, *after), numbers in groups.items():
        ordered = sorted(numbers, key=lambda number: (len(number), number))
        span = f"{{{ordered[0]}-{ordered[-1]}}}" if len(numbers) > 1 else "".join(numbers)
        yield before + span + "".join(after)
