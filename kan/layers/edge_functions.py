r"""The functions of a layer's edges on another grid, or with another number of basis functions.

    ``s_ij(x) = sum_m coef_ijm f_im(x)``

with the basis functions ``f_im`` of input i (`kan.bases.base`). A function is carried over to another space of functions exactly where that
space contains it. Elsewhere it becomes the closest one there is, in the sense of `kan.bases.projection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from kan.bases.base import Basis
from kan.bases.bspline import BSpline, SplineTable, tabulate
from kan.bases.knots import core, extend_knots, increasing, quantile_grid
from kan.bases.projection import MAX_RELATIVE_ERROR, carried_over, refit

__all__ = ["AdaptedGrid", "EdgeFunctions", "has_knots"]

MAX_UPDATE_ERROR = 128.0
"""Value of `MAX_RELATIVE_ERROR` for grid updates. It is larger because outlying samples can spread the grid so far that no spline on it is
close to the old function everywhere; only the error at the samples matters then. Hidden nodes beside a pole led to 101."""

SampledAt = Literal["sample", "grid"]
"""Where old functions are sampled: at the samples, or at points of a grid of ``2 G`` intervals that is made from these."""


def has_knots(basis: Basis) -> bool:
    """Whether functions of `basis` stay the same when knots are inserted: splines with their own values everywhere."""
    return isinstance(basis, BSpline) and basis.extrapolation == "own"


class AdaptedGrid(NamedTuple):
    """A grid that follows samples, and functions on it.

    Attributes:
        grid: the new grid, ``(I, P)``.
        coef: the functions' coefficients, ``(I, O, n)``.
        usable: which inputs have samples that determine a grid, ``(I,)``; the others keep their old grid.
        prepared: what the basis prepares of the grid, if it has been computed in the dtype of the grid; None otherwise.
    """

    grid: Tensor
    coef: Tensor
    usable: Tensor
    prepared: Any


@dataclass(frozen=True)
class EdgeFunctions:
    """The functions ``s_ij`` of a layer.

    Args:
        basis: the basis of the ``n`` functions ``f``.
        grid: its grid, ``(I, P)``.
        coef: the coefficients, ``(I, O, n)``.
        prepared: what the basis has prepared of the grid.
    """

    basis: Basis
    grid: Tensor
    coef: Tensor
    prepared: Any

    def on_grid(
        self,
        basis: Basis,
        grid: Tensor,
        ends: Tensor | None = None,
        samples: Tensor | None = None,
        largest: float = MAX_RELATIVE_ERROR,
        table: SplineTable | None = None,
    ) -> Tensor:
        """Coefficients ``(I, O, n')`` of the same functions, or of the closest ones, in another space.

        Args:
            basis: of that space, of the same kind as this one.
            grid: of that space, ``(I, P')``.
            ends: ``(I, 2)``, between which splines are to stay the same; the ends of `grid` when not given.
            samples: ``(B, I)``, where the functions count most; see `carried_over`.
            largest: the same, for splines.
            table: of splines on `grid`, if it is known.
        """
        if has_knots(self.basis):
            table = tabulate(grid.double(), self.prepared.degree) if table is None else table
            ends = basis.ends(grid) if ends is None else ends
            return carried_over(self.coef, self.prepared, table, ends, samples, largest).to(self.coef.dtype)
        return refit(self.basis, self.coef, self.grid, grid, samples, basis)

    def adapted(self, x: Tensor, num: int, grid_eps: float, mode: SampledAt) -> AdaptedGrid:
        """A grid that follows samples, with the functions on it.

        Args:
            x: ``(B, I)``.
            num: grid intervals ``G``.
            grid_eps: share of equal spacing in a grid that follows quantiles.
            mode: where the functions are sampled.
        """
        ordered = x.detach().to(self.grid.dtype).sort(dim=0).values
        points = ordered if mode == "sample" else quantile_grid(ordered, 2 * num, grid_eps).t()
        if has_knots(self.basis):
            k = self.prepared.degree
            points_of_grid = quantile_grid(ordered, num, grid_eps)
            usable = increasing(points_of_grid)
            grid = torch.where(usable[:, None], extend_knots(points_of_grid, k), self.grid)
            table = tabulate(grid.double(), k)
            coef = self.on_grid(self.basis, grid, samples=points, largest=MAX_UPDATE_ERROR, table=table)
        else:
            grid, usable = self.basis.adapted_grid(ordered, self.grid, grid_eps=grid_eps)
            coef, table = self.on_grid(self.basis, grid, samples=points), None
        prepared = table if table is not None and table.knots.dtype == grid.dtype else None
        return AdaptedGrid(grid, torch.where(usable[:, None, None], coef, self.coef), usable, prepared)

    def refined(self, basis: Basis, num: int, x: Tensor | None, grid_eps: float, mode: SampledAt) -> tuple[Tensor, Tensor]:
        """The functions in a space of the same kind with another number of functions.

        Args:
            basis: of that space.
            num: its grid intervals.
            x: ``(B, I)``, where the functions count most.
            grid_eps, mode: as in `adapted`.

        Returns:
            Its grid ``(I, P')`` and the coefficients ``(I, O, n')``.
        """
        x = None if x is None else x.detach().to(self.grid.dtype)
        grid, ends = self.basis.refined_grid(self.grid, basis), None
        if has_knots(self.basis) and x is not None:
            grid, ends = self._reaching(grid, x)
        if x is not None and mode == "grid":
            x = quantile_grid(x.sort(dim=0).values, 2 * num, grid_eps).t()
        return grid, self.on_grid(basis, grid, ends, x)

    def _reaching(self, knots: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Knots, and the ends ``(I, 2)`` between which splines stay the same. Inputs with samples beyond the grid keep the outer ones."""
        k, old, ends = self.prepared.degree, self.basis.ends(self.grid), self.basis.ends(knots)
        if k == 0:
            return knots, ends
        # After a grid update the outermost samples are the ends of the grid, but for rounding.
        rounding = 8 * torch.finfo(old.dtype).eps * core(self.grid, k).abs().amax(dim=1)
        least, largest = x.aminmax(dim=0)
        outside = (least < old[:, 0] - rounding) | (largest > old[:, 1] + rounding)
        kept = torch.cat([self.grid[:, :k], core(knots, k), self.grid[:, -k:]], dim=1)
        return torch.where(outside[:, None], kept, knots), torch.where(outside[:, None], kept[:, [0, -1]], ends)
