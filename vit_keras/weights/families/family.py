"""A family of checkpoints: how to recognise, read and write it."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from vit_keras.utils.errors import InputError
from vit_keras.weights.assumption import Assumption
from vit_keras.weights.checkpoint import Checkpoint
from vit_keras.weights.families.name_table import Row

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

PRE_TRAINING = "is used in pre-training only"
NO_POSITIONS = "it has no table of positions; rotary and relative positions are not supported"


@dataclasses.dataclass(frozen=True)
class PreparedCheckpoint:
    """A checkpoint with the array names of its family's rows and its settings as fields.

    Attributes:
        arrays: {source name: array}.
        config: fields of ViTConfig that shapes do not show.
        preprocessing: keyword arguments of Preprocessing but for image_size.
        decoder: fields of DecoderConfig that shapes do not show.
        class_names: of the head, or ().
        left_out: {source name: why}, arrays that are not part of a ViT.
        assumptions: values that the checkpoint does not specify.
    """

    arrays: dict[str, np.ndarray]
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    decoder: dict[str, Any] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    assumptions: tuple[Assumption, ...] = ()


@dataclasses.dataclass(frozen=True)
class Family:
    """One row of FAMILIES.

    Attributes:
        name: in reports and messages.
        rows: the name table.
        recognises: whether a checkpoint is of this family.
        prepare: Checkpoint -> PreparedCheckpoint; it checks the settings and ranks it reads.
        position_resize: how the family's code resizes learned positions, a key of
            positions.RESIZES.
        patch_resize: how the family's code resamples patch kernels.
    """

    name: str
    rows: tuple[Row, ...]
    recognises: Callable[[Checkpoint], bool]
    prepare: Callable[[Checkpoint], PreparedCheckpoint]
    position_resize: str
    patch_resize: str


def without_prefix(arrays: Mapping[str, np.ndarray], patch_kernel: str) -> dict[str, np.ndarray]:
    """Removes from all names the prefix of the patch kernel, such as "vit." or "visual.trunk."."""
    prefix = next(
        (name.removesuffix(patch_kernel) for name in arrays if name.endswith(patch_kernel)), ""
    )
    return {name.removeprefix(prefix): array for name, array in arrays.items()}


def rename(
    arrays: Mapping[str, np.ndarray], renames: Iterable[tuple[str, str]]
) -> dict[str, np.ndarray]:
    """Applies every (pattern, replacement) to every name, one after another."""
    renamed = {}
    for name, array in arrays.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        renamed[name] = array
    return renamed


def is_swiglu(arrays: Mapping[str, np.ndarray], expand: str, reduce: str) -> bool:
    """Whether an MLP's first matrix has twice the units that its second matrix reads (torch)."""
    return {expand, reduce} <= set(arrays) and len(arrays[expand]) == 2 * arrays[reduce].shape[1]


def fold_cls_position(arrays: dict[str, np.ndarray], cls: str, positions: str) -> None:
    """Adds the [CLS] token's position to the token, where registers have no positions.

    Args:
        arrays: {source name: array}, changed in place.
        cls: name of the token, (..., width).
        positions: name of the table, (..., 1 + patches, width).

    Raises:
        InputError: if there is no such token, or it and the table have different widths.
    """
    if cls not in arrays:
        raise InputError(f"it is not a complete ViT: {cls} is missing.")
    width = arrays[positions].shape[-1]
    if arrays[cls].size != width:
        raise InputError(
            f"{cls} must have {width} values, the width of {positions}. "
            f"Got shape {arrays[cls].shape}."
        )
    table = arrays[positions].reshape(1, -1, width)
    arrays[cls] = np.reshape(arrays[cls], (1, 1, -1)) + table[:, :1]
    arrays[positions] = table[:, 1:]


def unique_names(names: Iterable[object]) -> tuple[str, ...]:
    """Makes class names unique: ImageNet has two cranes, the second becomes "crane (2)"."""
    counts: dict[str, int] = {}
    unique = []
    for name in map(str, names):
        counts[name] = counts.get(name, 0) + 1
        unique.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return tuple(unique)


def assume(values: Mapping[str, object], why: str) -> tuple[Assumption, ...]:
    """One Assumption for each field, all for the same reason."""
    return tuple(Assumption(field, value, why) for field, value in values.items())
