r"""Construction and validation of the knots of B-splines.

A grid is ``G + 1`` points in increasing order; the knots of degree ``k`` on it have ``k`` more on either side. Symbols as in
`kan.bases.bspline`.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_knots", "core", "core_sites", "extend_knots", "increasing", "quantile_grid", "support_sites", "uniform_knots"]


def uniform_knots(low: float, high: float, intervals: int, degree: int, features: int, dtype: torch.dtype | None = None) -> Tensor:
    """Knots ``(features, intervals + 2 degree + 1)`` of a uniform grid on ``[low, high]``, extended on both sides.

    >>> uniform_knots(-1.0, 1.0, 2, 1, features=1)
    tensor([[-2., -1.,  0.,  1.,  2.]])
    """
    grid = torch.linspace(low, high, intervals + 1, dtype=dtype)
    return extend_knots(grid.expand(features, -1), degree)


def extend_knots(grid: Tensor, degree: int) -> Tensor:
    """Extend a core grid ``(I, G+1)`` to knots ``(I, G+2k+1)``, by `degree` knots on each side at the mean spacing of the row."""
    if degree == 0:
        return grid.contiguous()
    spacing = (grid[:, -1:] - grid[:, :1]) / (grid.shape[1] - 1)
    steps = torch.arange(1, degree + 1, dtype=grid.dtype, device=grid.device)
    return torch.cat([grid[:, :1] - spacing * steps.flip(0), grid, grid[:, -1:] + spacing * steps], dim=1)


def core(knots: Tensor, degree: int) -> Tensor:
    """The grid points ``t_k ... t_{G+k}`` of extended knots, ``(I, G+1)``."""
    return knots[:, degree : knots.shape[1] - degree]


def check_knots(knots: Tensor, degree: int) -> None:
    """Raise ``ValueError`` unless `knots` is ``(I, P)`` with finite, non-decreasing rows and at least one interval."""
    if knots.dim() != 2 or knots.shape[1] < 2 * degree + 2:
        raise ValueError(
            f"knots must have the shape (in_features, intervals + 2*degree + 1) with at least one interval; "
            f"got {tuple(knots.shape)} for degree {degree}."
        )
    if not bool(torch.isfinite(knots).all()):
        raise ValueError("knots must be finite; they hold NaN or infinity.")
    falling = (knots[:, 1:] < knots[:, :-1]).any(dim=1)
    if bool(falling.any()):
        raise ValueError(f"knots must not decrease along a row; they do for the inputs {falling.nonzero()[:, 0].tolist()}.")


def quantile_grid(ordered: Tensor, intervals: int, grid_eps: float, margin: float = 0.0) -> Tensor:
    """Return grids ``grid_eps * uniform + (1 - grid_eps) * quantiles``, ``(I, intervals + 1)``, of sorted samples ``(B, I)``.

    Both parts extend by `margin` beyond the smallest and the largest sample.
    """
    count = ordered.shape[0]
    index = [int(count / intervals * i) for i in range(intervals)] + [count - 1]
    low, high = ordered[0][:, None] - margin, ordered[-1][:, None] + margin
    adaptive = torch.cat([low, ordered[index[1:-1]].t(), high], dim=1)
    uniform = low + (high - low) / intervals * torch.arange(intervals + 1, dtype=ordered.dtype, device=ordered.device)
    return grid_eps * uniform + (1 - grid_eps) * adaptive


def increasing(grid: Tensor) -> Tensor:
    """Return for which rows the points increase by more than round-off, and by enough for a finite reciprocal, ``(I,)``."""
    format = torch.finfo(grid.dtype)
    noise = (8 * format.eps * grid.abs().amax(dim=1, keepdim=True)).clamp(min=format.tiny)
    return (grid.diff(dim=1) > noise).all(dim=1)


def support_sites(knots: Tensor, degree: int) -> Tensor:
    """Return the Greville abscissae ``(t_{m+1} + ... + t_{m+k})/k``, one per basis function, ``(I, n)``; span midpoints for degree 0."""
    if degree == 0:
        return (knots[:, 1:] + knots[:, :-1]) / 2
    return knots[:, 1:-1].unfold(1, degree, 1).mean(-1)


def core_sites(knots: Tensor, degree: int) -> Tensor:
    """Return the `support_sites` of the knots clamped to the core: ``n`` distinct sites in ``[t_k, t_{G+k}]``, ``(I, n)``."""
    grid = core(knots, degree)
    return support_sites(torch.minimum(torch.maximum(knots, grid[:, :1]), grid[:, -1:]), degree)
