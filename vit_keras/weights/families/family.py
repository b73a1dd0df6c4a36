"""What a family of checkpoints is: how to recognise, read and write it."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from vit_keras.weights.checkpoint import Checkpoint
from vit_keras.weights.families.name_table import Row

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


PRE_TRAINING = "is of use in pre-training alone"
NO_POSITIONS = "it has no table of positions: rotary or relative ones are not supported"


def without_prefix(arrays, patch_kernel):
    """Names without what stands before the patch kernel's, such as "vit." or "visual.trunk." """
    prefix = next(
        (name.removesuffix(patch_kernel) for name in arrays if name.endswith(patch_kernel)), ""
    )
    return {name.removeprefix(prefix): array for name, array in arrays.items()}


def renamed(arrays, renames):
    """Names with every (pattern, replacement) applied in turn"""
    found = {}
    for name, array in arrays.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        found[name] = array
    return found


def is_swiglu(arrays, expand, reduce):
    """Whether of an MLP's two kernels of torch the first gives twice what the second takes"""
    return {expand, reduce} <= set(arrays) and len(arrays[expand]) == 2 * arrays[reduce].shape[1]


def fold_cls_position(arrays, cls, positions):
    """Adds the [CLS] token's position to the token, where registers have no positions."""
    table = arrays[positions].reshape(1, -1, arrays[positions].shape[-1])
    arrays[cls] = np.reshape(arrays[cls], (1, 1, -1)) + table[:, :1]
    arrays[positions] = table[:, 1:]


def unique_names(names):
    """Names of classes, the second "crane" as "crane (2)": ImageNet has a bird and a machine"""
    seen: dict[str, int] = {}
    unique = []
    for name in map(str, names):
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(unique)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A checkpoint whose names are those of its family's rows.

    Attributes:
        arrays: {their name: array}
        config: what the checkpoint tells about fields of ViTConfig beyond the arrays' shapes.
        decoder: the same about fields of DecoderConfig.
        preprocessing: keyword arguments of Preprocessing but for image_size.
        class_names: of the head, or ().
        left_out: {name: why}, arrays that are no part of a ViT.
        assumed: sentences about what the checkpoint does not tell.
    """

    arrays: dict[str, np.ndarray]
    config: dict
    preprocessing: dict
    decoder: dict = dataclasses.field(default_factory=dict)
    class_names: tuple = ()
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    assumed: tuple = ()


@dataclasses.dataclass(frozen=True)
class Family:
    """One row of FAMILIES.

    Attributes:
        name: what reports call it.
        rows: the name table.
        recognises: whether a checkpoint is of this family.
        prepare: Checkpoint -> Prepared.
        position_resize: how its own code resizes learned positions, a key of positions.RESIZES.
        patch_resize: how its own code resamples patch kernels.
    """

    name: str
    rows: tuple[Row, ...]
    recognises: Callable[[Checkpoint], bool]
    prepare: Callable[[Checkpoint], Prepared]
    position_resize: str
    patch_resize: str
