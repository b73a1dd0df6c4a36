"""Names and array shapes of a family <-> this project's: the rows that name tables are made of.

A source name is the name of an array in a checkpoint file. A name is the path of a model's
variable, such as block_0/attention/qkv/kernel; the arrays under these names have the variables'
shapes, but for the patch kernel, (y, x, channels, width), which has to be resampled.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from vit_keras.utils.errors import InputError

PATCH_KERNEL = "patch_encoder/projection/kernel"
POSITIONS = "patch_encoder/positions"


@dataclasses.dataclass(frozen=True)
class Shape:
    """Numbers that array shapes depend on: attention heads, pixels of a patch, image channels."""

    heads: int = 0
    patch_size: int = 0
    channels: int = 0


@dataclasses.dataclass(frozen=True)
class Layout:
    """Order of an array's axes in a family's files and in a variable.

    Attributes:
        ranks: numbers of axes that the array may have in a file.
        read: array of a file -> array of the variable's shape.
        write: array of the variable's shape -> array of a file.
    """

    ranks: tuple[int, ...]
    read: Callable[[np.ndarray, Shape], np.ndarray] = lambda a, _: a
    write: Callable[[np.ndarray, Shape], np.ndarray] = lambda a, _: a


@dataclasses.dataclass(frozen=True)
class Row:
    """One array of a checkpoint and the variable, or the part of a variable, it becomes.

    Attributes:
        source_name: in the file; each {} is a whole number.
        name: of the variable; with as many {} as source_name, in the same order.
        layout: order of the axes.
        part: index of this array among the `parts` along the variable's last axis.
        parts: number of arrays that make up the variable.
    """

    source_name: str
    name: str
    layout: Layout
    part: int = 0
    parts: int = 1


def _pixels_last(array, shape):
    """(channels * P * P, ...) of torch's PixelShuffle -> (P * P * channels, ...)."""
    x = array.reshape(shape.channels, shape.patch_size, shape.patch_size, -1)
    return np.moveaxis(x, 0, 2).reshape(len(array), -1)


def _pixels_first(array, shape):
    """(P * P * channels, ...) -> (channels * P * P, ...)."""
    x = array.reshape(shape.patch_size, shape.patch_size, shape.channels, -1)
    return np.moveaxis(x, 2, 0).reshape(len(array), -1)


VECTOR = Layout((1,))
MATRIX = Layout((2,))
TOKENS = Layout((3,))  # (1, tokens, width)
IMAGE_KERNEL = Layout((4,))  # (y, x, in, out)
TORCH_TOKENS = Layout((1, 2, 3), lambda a, _: a.reshape(1, -1, a.shape[-1]))  # some lack an axis
TORCH_MATRIX = Layout((2,), lambda a, _: a.T, lambda a, _: a.T)  # (out, in)
TORCH_IMAGE_KERNEL = Layout(  # (out, in, y, x)
    (4,), lambda a, _: a.transpose(2, 3, 1, 0), lambda a, _: a.transpose(3, 2, 0, 1)
)
FLAX_CHANNELS = Layout(
    (1, 2, 3, 4), lambda a, _: a.reshape(-1), lambda a, _: a.reshape(1, 1, 1, -1)
)
# Flax gives heads an axis of their own: (width, heads, width / heads).
FLAX_HEADS_KERNEL = Layout(
    (2, 3), lambda a, _: a.reshape(len(a), -1), lambda a, s: a.reshape(len(a), s.heads, -1)
)
FLAX_HEADS_BIAS = Layout((1, 2), lambda a, _: a.reshape(-1), lambda a, s: a.reshape(s.heads, -1))
FLAX_HEADS_OUT = Layout(  # (heads, width / heads, width)
    (2, 3),
    lambda a, _: a.reshape(-1, a.shape[-1]),
    lambda a, s: a.reshape(s.heads, -1, a.shape[-1]),
)
# The layer before torch's PixelShuffle, a convolution of one pixel.
SHUFFLED_KERNEL = Layout(
    (4,),
    lambda a, s: _pixels_last(a, s).T,
    lambda a, s: _pixels_first(a.T, s)[:, :, np.newaxis, np.newaxis],
)
SHUFFLED_BIAS = Layout(
    (1,), lambda a, s: _pixels_last(a, s).reshape(-1), lambda a, s: _pixels_first(a, s).reshape(-1)
)

# The arrays of one kind of layer: {end of the source name: (end of the name, layout)}.
LayerArrays = Mapping[str, tuple[str, Layout]]
TORCH_LINEAR: LayerArrays = {".weight": ("/kernel", TORCH_MATRIX), ".bias": ("/bias", VECTOR)}
TORCH_NORM: LayerArrays = {".weight": ("/gamma", VECTOR), ".bias": ("/beta", VECTOR)}
FLAX_DENSE: LayerArrays = {"/kernel": ("/kernel", MATRIX), "/bias": ("/bias", VECTOR)}
FLAX_NORM: LayerArrays = {"/scale": ("/gamma", VECTOR), "/bias": ("/beta", VECTOR)}
FLAX_GROUP_NORM: LayerArrays = {
    "/scale": ("/gamma", FLAX_CHANNELS),
    "/bias": ("/beta", FLAX_CHANNELS),
}
FLAX_HEADS_IN_DENSE: LayerArrays = {
    "/kernel": ("/kernel", FLAX_HEADS_KERNEL),
    "/bias": ("/bias", FLAX_HEADS_BIAS),
}
FLAX_HEADS_OUT_DENSE: LayerArrays = {
    "/kernel": ("/kernel", FLAX_HEADS_OUT),
    "/bias": ("/bias", VECTOR),
}


def layer_rows(
    arrays: LayerArrays, source_name: str, name: str, part: int = 0, parts: int = 1
) -> tuple[Row, ...]:
    """The rows of one layer.

    Args:
        arrays: of this kind of layer, such as TORCH_LINEAR.
        source_name: of the layer in the family's files.
        name: of the layer in a model.
        part: as in `Row`.
        parts: as in `Row`.

    Returns:
        One row for each array.
    """
    return tuple(
        Row(source_name + source_end, name + end, layout, part, parts)
        for source_end, (end, layout) in arrays.items()
    )


@functools.cache
def _expression(pattern):
    return re.compile(re.escape(pattern).replace(r"\{\}", "([0-9]{1,4})"))


def _numbers_in(pattern, name):
    """The numbers in the name where the pattern has {}, or None if it does not match."""
    match = _expression(pattern).fullmatch(name)
    return None if match is None else match.groups()


def _match_rows(rows, source_names):
    """{source name: (row, numbers)}, without names that match no row."""
    plain = {row.source_name: row for row in rows if "{}" not in row.source_name}
    numbered = [row for row in rows if "{}" in row.source_name]
    matches = {}
    for name in source_names:
        if name in plain:
            matches[name] = (plain[name], ())
            continue
        for row in numbered:
            numbers = _numbers_in(row.source_name, name)
            if numbers is not None:
                matches[name] = (row, numbers)
                break
    return matches


def check_ranks(rows: Iterable[Row], arrays: Mapping[str, np.ndarray]) -> None:
    """Checks that every array has as many axes as its row's layout reads.

    Args:
        rows: the name table of a family.
        arrays: {source name: array}; names without a row are not checked.

    Raises:
        InputError: if one has not; the message names it.
    """
    for name, (row, _) in _match_rows(rows, arrays).items():
        shape, ranks = arrays[name].shape, row.layout.ranks
        if len(shape) not in ranks:
            raise InputError(
                f"{name} must have rank {' or '.join(map(str, ranks))}. Got shape {shape}; is the "
                f"file of another kind of model?"
            )


def from_source(
    rows: Iterable[Row], arrays: Mapping[str, np.ndarray], shape: Shape
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays under source names -> arrays under a model's names.

    A variable is left out if one of its parts is missing.

    Args:
        rows: the name table of a family.
        arrays: {source name: array}, of the ranks that `check_ranks` allows.
        shape: numbers that the shapes depend on.

    Returns:
        {name: array}, and the source names that match no row or duplicate another array.

    Raises:
        InputError: for parts of one variable with different shapes.
    """
    matches = _match_rows(rows, arrays)
    unknown = [source_name for source_name in arrays if source_name not in matches]
    parts: dict[str, dict] = {}
    parts_needed = {}
    for source_name, (row, numbers) in matches.items():
        name = row.name.format(*numbers)
        parts_needed[name] = row.parts
        if row.part in parts.setdefault(name, {}):
            unknown.append(source_name)
        else:
            parts[name][row.part] = row.layout.read(arrays[source_name], shape)
    complete = {
        name: [numbered[part] for part in sorted(numbered)]
        for name, numbered in parts.items()
        if len(numbered) == parts_needed[name]
    }
    for name, pieces in complete.items():
        if len({piece.shape for piece in pieces}) > 1:
            shapes = ", ".join(str(piece.shape) for piece in pieces)
            source_names = ", ".join(rows_by_source_name(rows, name))
            raise InputError(f"{source_names} must have the same shape. Got {shapes}.")
    return {name: np.concatenate(pieces, axis=-1) for name, pieces in complete.items()}, unknown


def to_source(
    rows: Iterable[Row], arrays: Mapping[str, np.ndarray], shape: Shape
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays under a model's names -> arrays under source names.

    Args:
        rows: the name table of a family.
        arrays: {name: array}.
        shape: numbers that the shapes depend on.

    Returns:
        {source name: array}, and the names that match no row; if there are any, no arrays.
    """
    rows_of = {name: rows_by_source_name(rows, name) for name in arrays}
    unknown = [name for name, source_rows in rows_of.items() if not source_rows]
    if unknown:
        return {}, unknown
    source_arrays = {}
    for name, array in arrays.items():
        for source_name, row in rows_of[name].items():
            part = np.split(array, row.parts, axis=-1)[row.part]
            source_arrays[source_name] = np.ascontiguousarray(row.layout.write(part, shape))
    return source_arrays, unknown


def rows_by_source_name(rows: Iterable[Row], name: str) -> dict[str, Row]:
    """{source name: row} of the arrays that make up a variable."""
    matches = ((row, _numbers_in(row.name, name)) for row in rows)
    return {
        row.source_name.format(*numbers): row for row, numbers in matches if numbers is not None
    }
