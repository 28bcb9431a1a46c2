"""Another grid, or another number of basis functions, for an existing layer whose edges keep their functions."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from kan.errors import level_of_caller
from kan.layers.computed import take_apart_
from kan.layers.kan_layer import KANLayer

__all__ = ["match_size_", "set_grid_"]


@torch.no_grad()
def set_grid_(layer: KANLayer, grid: Tensor, num: int, ends: Tensor | None = None) -> None:
    """Give `layer` another grid and number of grid intervals, in place; its ``grid`` and ``coef`` are new parameters.

    An edge's function stays the same to round-off where the new space contains it. Otherwise it becomes its best approximation there.

    Args:
        layer: changed in place.
        grid: the new one, ``(I, P)``.
        num: its number of intervals.
        ends: the interval of each input on which splines are to stay the same, ``(I, 2)``; that of the new grid when not given.

    Raises:
        ValueError: if the basis has no version of that size, or `grid` is not a valid grid for it; nothing is changed then.

    Warns:
        UserWarning: if torch computed parameters of the layer from others, which it no longer does.
    """
    basis = layer.basis.resized(num, layer.k)
    basis.prepare(grid)
    lost = take_apart_(layer)
    if lost:
        warnings.warn(
            f"another grid: {', '.join(lost)}, which torch computed from other parameters (pruning, weight normalisation, a "
            f"parametrization), becomes an ordinary parameter with the same function. Set up again what computed it.",
            stacklevel=level_of_caller(),
        )
    coef = layer.edge_functions().on_grid(basis, grid, ends)
    layer.grid = nn.Parameter(grid, requires_grad=False)
    layer.coef = nn.Parameter(coef, layer.coef.requires_grad)


def match_size_(layer: KANLayer, other: KANLayer) -> None:
    """Give `layer` the grid of `other`, in place, if that has another number of grid intervals."""
    if layer.coef.shape[2] != other.coef.shape[2]:
        set_grid_(layer, other.grid.detach().to(layer.grid, copy=True), other.num)
