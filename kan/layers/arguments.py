"""What the arguments mean that the constructors of `KANLinear` and of `KANConv1d` to `KANConv3d` share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from kan.bases.base import Basis, Extrapolation
from kan.bases.bspline import BSpline
from kan.bases.registry import basis_class
from kan.layers.base_functions import BaseFunction

__all__ = ["base_function", "interval", "make_basis", "share_of_equal_spacing"]


def make_basis(basis: str | Basis, grid_size: int, spline_order: int, extrapolation: Extrapolation | None) -> Basis:
    """The basis itself, or the one of that name with ``grid_size + spline_order`` functions; with `extrapolation` if that is given.

    Raises:
        TypeError: if it is neither.
        ValueError: for an unknown name, or if the basis returns another number of functions than its size.
    """
    found = basis
    if not isinstance(found, (str, Basis)):
        raise TypeError(f"basis must be the name of a basis, or a Basis such as Chebyshev(8); got {found!r}.")
    if isinstance(found, str):
        cls: Any = basis_class(found)
        found = cls(grid_size, spline_order) if issubclass(cls, BSpline) else cls(grid_size + spline_order)
    if extrapolation is not None:
        found = replace(found, extrapolation=extrapolation)  # type: ignore[type-var]  # every basis is a dataclass
    assert isinstance(found, Basis)
    if found is basis and type(found) is not BSpline:  # a fifth of the time that a small KAN takes to make
        _check_count(found)
    return found


@torch.no_grad()
def _check_count(basis: Basis) -> None:
    grid = basis.initial_grid(1, -1.0, 1.0)
    with torch.inference_mode(False):
        count = basis.rows(grid.new_zeros(1, 1), basis.prepare(grid)).shape[1]
    if count != basis.size:
        raise ValueError(f"{basis} has a size of {basis.size} functions, and it returns the values of {count}: make them agree.")


def base_function(activation: type[nn.Module] | BaseFunction) -> BaseFunction:
    """The function itself, or a new module of the class, with parameters that can be trained even if made in inference mode."""
    if not isinstance(activation, type):
        return activation
    with torch.inference_mode(False):
        made: BaseFunction = activation()
    return made


def interval(grid_range: Sequence[float]) -> tuple[float, float]:
    """The ends of `grid_range` as numbers.

    Raises:
        ValueError: unless they are two, finite, the smaller first.
    """
    ends = [float(end) for end in grid_range]
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise ValueError(f"grid_range must be [low, high] with low < high; got {list(grid_range)}.")
    if not all(map(math.isfinite, ends)):
        raise ValueError(f"grid_range must be finite; got {list(grid_range)}.")
    return ends[0], ends[1]


def share_of_equal_spacing(grid_eps: float) -> float:
    """`grid_eps` itself.

    Raises:
        ValueError: unless it is between 0 and 1.
    """
    if not 0 <= grid_eps <= 1:
        raise ValueError(f"grid_eps, the share of equal spacing in a grid, must be between 0 and 1; got {grid_eps}.")
    return grid_eps
