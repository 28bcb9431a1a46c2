r"""pykan's import path of the splines: values, curves, coefficients and knots, on tensors.

With knots ``t_0 <= ... <= t_{P-1}`` per input, extended already, the B-splines of degree ``k`` are those of `kan.bases.bspline`, and every
interval is half-open: at and beyond ``t_{P-1}`` all of them are 0, for ``k = 0`` too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kan.bases.bspline import bspline_basis, tabulate
from kan.bases.knots import check_knots, extend_knots
from kan.bases.projection import solve

__all__ = ["B_batch", "coef2curve", "curve2coef", "extend_grid"]


def extend_grid(grid: Tensor, k_extend: int = 0, device: torch.device | str | None = None) -> Tensor:
    """`grid` ``(n, P)`` with `k_extend` more points on both sides, at the mean spacing of its row: ``(n, P + 2 k_extend)``.

    `device`, of pykan 0.0, is not used.

    Raises:
        ValueError: if `grid` is no matrix of at least two columns, or `k_extend` is negative.

    >>> extend_grid(torch.tensor([[0.0, 1.0, 4.0]]), 1)
    tensor([[-2.,  0.,  1.,  4.,  6.]])
    """
    if grid.dim() != 2 or grid.shape[1] < 2:
        raise ValueError(f"grid must have the shape (inputs, points) with at least two points; got {tuple(grid.shape)}.")
    if k_extend < 0:
        raise ValueError(f"k_extend, the number of points to add on each side, must be at least 0; got {k_extend}.")
    return grid if k_extend == 0 else extend_knots(grid, k_extend)


def B_batch(x: Tensor, grid: Tensor, k: int = 0, extend: bool = True, device: torch.device | str | None = None) -> Tensor:
    """Values of all B-splines, ``(B, n, P-1-k)``; differentiable with respect to `x`.

    Args:
        x: ``(B, n)``. One column, or one row of `grid`, serves for all of the other.
        grid: ``(n, P)`` extended knots, for a layer with ``G`` intervals ``P = G + 2k + 1``.
        k: degree.
        extend, device: not used, as in pykan; the result is where `x` is.

    Returns:
        In the wider of the two dtypes.

    Raises:
        ValueError: for shapes that do not fit, or knots that are not finite or decrease.

    >>> values = B_batch(torch.tensor([[0.5], [2.0]]), extend_grid(torch.linspace(0, 2, 3)[None], 2), k=2)
    >>> values.shape, bool(torch.allclose(values.sum(dim=2), torch.ones(2, 1)))
    (torch.Size([2, 1, 4]), True)
    """
    dtype = torch.promote_types(x.dtype, grid.dtype)
    if x.dim() != 2 or grid.dim() != 2 or (x.shape[1] != len(grid) and 1 not in (x.shape[1], len(grid))):
        raise ValueError(
            f"x must have the shape (samples, inputs) and grid (inputs, knots), with one row of knots per input or one for all; "
            f"got {tuple(x.shape)} and {tuple(grid.shape)}."
        )
    check_knots(grid, k)
    x, grid = x.to(dtype), grid.detach().to(x.device, dtype)
    x = x.expand(-1, max(x.shape[1], len(grid)))
    if len(grid) == 1:  # one table for all points
        values = bspline_basis(x.reshape(-1, 1), tabulate(grid, k)).view(*x.shape, -1)
    else:
        values = bspline_basis(x, tabulate(grid, k))
    # Of degree 0, the basis itself closes the last interval.
    return torch.where((x < grid[:, -1])[:, :, None], values, 0.0) if k == 0 else values


def coef2curve(x_eval: Tensor, grid: Tensor, coef: Tensor, k: int, device: torch.device | str | None = None) -> Tensor:
    """The splines ``y_bio = sum_c coef_ioc B_c(x_bi)``, ``(B, in, out)``.

    Args:
        x_eval: ``(B, in)``.
        grid: ``(in, G + 2k + 1)`` extended knots.
        coef: ``(in, out, G + k)``; brought to where `x_eval` is.
        k: degree.
        device: not used.

    Returns:
        In the widest of the three dtypes.

    Raises:
        ValueError: for shapes that do not fit.
    """
    basis = B_batch(x_eval, grid, k)
    if coef.dim() != 3 or coef.shape[0] != basis.shape[1] or coef.shape[2] != basis.shape[2]:
        raise ValueError(f"coef must have the shape ({basis.shape[1]}, outputs, {basis.shape[2]}); got {tuple(coef.shape)}.")
    dtype = torch.promote_types(basis.dtype, coef.dtype)
    return torch.einsum("bic,ioc->bio", basis.to(dtype), coef.to(basis.device, dtype))


def curve2coef(x_eval: Tensor, y_eval: Tensor, grid: Tensor, k: int, device: torch.device | str | None = None) -> Tensor:
    """The coefficients ``(in, out, G + k)`` that minimise ``sum_b (sum_c coef_ioc B_c(x_bi) - y_bio)^2``, of those the smallest.

    Solved in float64 by singular values, so that too few samples, repeated ones and any degree are no special case.

    Args:
        x_eval: ``(B, in)``.
        y_eval: ``(B, in, out)``.
        grid: ``(in, G + 2k + 1)`` extended knots.
        k: degree.
        device: not used; an argument of pykan 0.0.

    Returns:
        In the dtype of `y_eval`.

    Raises:
        ValueError: for shapes that do not fit.

    >>> grid = extend_grid(torch.linspace(-1, 1, 6, dtype=torch.float64)[None], 3)
    >>> x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    >>> coef = curve2coef(x, (x**3)[:, :, None], grid, k=3)  # a cubic is a cubic spline
    >>> bool((coef2curve(x, grid, coef, k=3)[:, :, 0] - x**3).abs().max() < 1e-12)
    True
    """
    design = B_batch(x_eval.double(), grid, k).transpose(0, 1)
    if y_eval.dim() != 3 or y_eval.shape[:2] != (design.shape[1], design.shape[0]):
        raise ValueError(f"y_eval must have the shape ({design.shape[1]}, {design.shape[0]}, outputs); got {tuple(y_eval.shape)}.")
    return solve(design, y_eval.to(design).transpose(0, 1)).mT.to(y_eval.dtype)
