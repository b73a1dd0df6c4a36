"""A family's names and array shapes <-> ours: the rows all name tables are made of.

Ours are the paths of a model's variables, such as block_0/attention/qkv/kernel. Only the patch
kernel has other axes here than in the model: (y, x, channels, width), for resampling.
"""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from vit_keras.utils.errors import InputError

PATCH_KERNEL = "patch_encoder/projection/kernel"
POSITIONS = "patch_encoder/positions"


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the shapes of arrays depend on beside the arrays: heads, and the pixels of a patch."""

    heads: int = 0
    patch_size: int = 0
    channels: int = 0


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one array's axes lie: `read` turns theirs into ours, `write` ours into theirs."""

    read: Callable[[np.ndarray, Shape], np.ndarray]
    write: Callable[[np.ndarray, Shape], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Row:
    """One array of theirs and the variable, or the part of one, that it is.

    Attributes:
        theirs, ours: names; each {} stands for a whole number, in the same order in both.
        layout: Layout.
        part, parts: this array is number `part` of `parts` along the variable's last axis.
    """

    theirs: str
    ours: str
    layout: Layout
    part: int = 0
    parts: int = 1


def _pixels_last(array, shape):
    """(channels * P * P, ...) of torch's PixelShuffle -> (P * P * channels, ...)"""
    x = array.reshape(shape.channels, shape.patch_size, shape.patch_size, -1)
    return np.moveaxis(x, 0, 2).reshape(len(array), -1)


def _pixels_first(array, shape):
    x = array.reshape(shape.patch_size, shape.patch_size, shape.channels, -1)
    return np.moveaxis(x, 2, 0).reshape(len(array), -1)


SAME = Layout(lambda a, _: a, lambda a, _: a)
TOKEN = Layout(lambda a, _: a.reshape(1, -1, a.shape[-1]), lambda a, _: a)  # some lack an axis
LINEAR = Layout(lambda a, _: a.T, lambda a, _: a.T)  # torch: (out, in)
CONV = Layout(lambda a, _: a.transpose(2, 3, 1, 0), lambda a, _: a.transpose(3, 2, 0, 1))
VECTOR = Layout(lambda a, _: a.reshape(-1), lambda a, _: a.reshape(1, 1, 1, -1))
# Flax: heads have an axis of their own, (width, heads, width / heads).
HEADS_KERNEL = Layout(
    lambda a, _: a.reshape(len(a), -1), lambda a, s: a.reshape(len(a), s.heads, -1)
)
HEADS_BIAS = Layout(lambda a, _: a.reshape(-1), lambda a, s: a.reshape(s.heads, -1))
HEADS_OUT = Layout(
    lambda a, _: a.reshape(-1, a.shape[-1]), lambda a, s: a.reshape(s.heads, -1, a.shape[-1])
)
# The layer before torch's PixelShuffle, a convolution of one pixel.
SHUFFLED_KERNEL = Layout(
    lambda a, s: _pixels_last(a, s).T,
    lambda a, s: _pixels_first(a.T, s)[:, :, np.newaxis, np.newaxis],
)
SHUFFLED_BIAS = Layout(
    lambda a, s: _pixels_last(a, s).reshape(-1), lambda a, s: _pixels_first(a, s).reshape(-1)
)


def torch_linear(theirs, ours, part=0, parts=1):
    """Rows of one torch.nn.Linear"""
    return (
        Row(f"{theirs}.weight", f"{ours}/kernel", LINEAR, part, parts),
        Row(f"{theirs}.bias", f"{ours}/bias", SAME, part, parts),
    )


def torch_norm(theirs, ours):
    """Rows of one torch.nn.LayerNorm"""
    return (
        Row(f"{theirs}.weight", f"{ours}/gamma", SAME),
        Row(f"{theirs}.bias", f"{ours}/beta", SAME),
    )


def numbers_in(pattern, name):
    """The numbers that stand for each {} of the pattern in the name, or None"""
    match = re.fullmatch(re.escape(pattern).replace(r"\{\}", r"(\d+)"), name)
    return None if match is None else match.groups()


def match_rows(rows, names):
    """Which row each of their names belongs to: {name: (row, numbers)}, without those of no row"""
    plain = {row.theirs: row for row in rows if "{}" not in row.theirs}
    numbered = [row for row in rows if "{}" in row.theirs]
    found = {}
    for name in names:
        if name in plain:
            found[name] = (plain[name], ())
            continue
        for row in numbered:
            numbers = numbers_in(row.theirs, name)
            if numbers is not None:
                found[name] = (row, numbers)
                break
    return found


def to_ours(rows, arrays, shape):
    """Their arrays -> ({our path: array}, names of theirs that no row knows or another has taken).

    A variable is left out if not all of its parts are there.
    """
    matched = match_rows(rows, arrays)
    parts: dict[str, dict] = {}
    unknown = [name for name in arrays if name not in matched]
    for name, (row, numbers) in matched.items():
        found = parts.setdefault(row.ours.format(*numbers), {})
        if row.part in found:
            unknown.append(name)
        else:
            found[row.part] = (row, row.layout.read(arrays[name], shape))
    ours = {}
    for path, found in parts.items():
        row = next(iter(found.values()))[0]
        if len(found) < row.parts:
            continue
        arrays_of_parts = [found[part][1] for part in sorted(found)]
        if len({array.shape for array in arrays_of_parts}) > 1:
            shapes = ", ".join(str(array.shape) for array in arrays_of_parts)
            raise InputError(f"{', '.join(theirs_of(rows, path))} do not fit together: {shapes}")
        ours[path] = np.concatenate(arrays_of_parts, axis=-1)
    return ours, unknown


def to_theirs(rows, ours, shape):
    """{our path: array} -> ({their name: array}, our paths that no row knows)"""
    named = {path: theirs_of(rows, path) for path in ours}
    unknown = [path for path, found in named.items() if not found]
    if unknown:
        return {}, unknown
    theirs = {}
    for path, array in ours.items():
        for name, row in named[path].items():
            part = np.split(array, row.parts, axis=-1)[row.part]
            theirs[name] = np.ascontiguousarray(row.layout.write(part, shape))
    return theirs, unknown


def theirs_of(rows, path):
    """{their name: row} of the arrays that make up our variable"""
    matched = ((row, numbers_in(row.ours, path)) for row in rows)
    return {row.theirs.format(*numbers): row for row, numbers in matched if numbers is not None}
