"""Rows of a table of positions, and image sizes -> the grid of patches."""

import dataclasses
import math
from collections.abc import Iterable

from vit_keras.utils.errors import InputError

Grid = tuple[int, ...]  # patches down and across


@dataclasses.dataclass(frozen=True)
class TableLayout:
    """A possible layout of a table of positions.

    Attributes:
        prefix_rows: whether the tokens before the patches have rows.
        trust_square: whether a square number of other rows is enough evidence for this layout.
    """

    prefix_rows: bool
    trust_square: bool


def table_layouts(
    prefix_positions: bool | None, registers: bool, layer_scale: bool
) -> tuple[TableLayout, ...]:
    """The possible layouts of a checkpoint's table, the most likely first.

    Args:
        prefix_positions: whether the tokens before the patches have rows; None if not specified.
        registers: whether the model has registers.
        layer_scale: whether the model has layer scale.
    """
    if prefix_positions is not None:
        return (TableLayout(prefix_positions, trust_square=True),)
    # Published models with registers have positions for the patches only. Of those with layer
    # scale, DINOv2 has positions for the prefix and DeiT III has not: both layouts are likely.
    return (
        TableLayout(prefix_rows=not registers, trust_square=True),
        TableLayout(prefix_rows=registers, trust_square=layer_scale),
    )


def infer_grid(
    rows: int,
    prefix_count: int,
    layouts: Iterable[TableLayout],
    own_grid: Grid | None,
    target_grid: Grid | None,
) -> tuple[Grid, bool]:
    """The grid of a checkpoint with learned positions.

    Args:
        rows: of the table.
        prefix_count: number of tokens before the patches.
        layouts: of `table_layouts`.
        own_grid: of the checkpoint's image size, or None if it is not specified.
        target_grid: of the new model's image size, or None if it is the checkpoint's.

    Returns:
        The grid, and whether the table has rows for the tokens before the patches.

    Raises:
        InputError: if no grid, or more than one, fits the table.
    """
    layouts = list(layouts)
    patches = {layout: rows - prefix_count * layout.prefix_rows for layout in layouts}
    own = _layouts_that_fit(patches, own_grid)
    if own_grid is not None and own:
        return own_grid, own[0].prefix_rows
    squares = {}
    for layout in layouts:
        side = math.isqrt(max(0, patches[layout]))
        if layout.trust_square and 0 < side**2 == patches[layout]:
            squares[layout] = (side, side)
    targets = _layouts_that_fit(patches, target_grid)
    if squares:
        targets = [layout for layout in targets if layout.trust_square]
    if squares and (not targets or target_grid in squares.values()):
        layout, square = next(iter(squares.items()))
        return square, layout.prefix_rows
    if target_grid is not None and targets and not squares:
        return target_grid, targets[0].prefix_rows
    problem = "fit both a square grid and image_size" if squares else "do not form a square grid"
    count = patches[layouts[0]]
    raise InputError(
        f"its {count} patches {problem}; pass weights_image_size=(height, width), the image size "
        f"that the checkpoint was trained with."
    )


def _layouts_that_fit(patches, grid):
    """The layouts whose number of patches is that of a grid; none without a grid."""
    if grid is None:
        return []
    return [layout for layout, count in patches.items() if 0 < count == math.prod(grid)]
