r"""Coefficients from values: interpolation and least squares on B-splines, one problem per input.

The design matrix of an input, ``A[b, m] = B_m(x_b)``, does not depend on the output, so all outputs are right-hand sides of one
factorisation. Everything is solved in float64 and rounded once at the end.

Two facts do the work of grid updates and refinement:

* A spline is determined by its values at ``n`` sites that satisfy the Schoenberg-Whitney conditions (site ``m`` inside the support of
  ``B_m``). At such sites (`core_sites`) interpolation reproduces, to round-off, every function that the new knots can represent, which
  makes refinement to a nested grid exact without any data.
* ``argmin |A c - y|`` has many solutions when the samples leave some spline undetermined. Writing ``c = c0 + d`` and taking the
  smallest ``d`` keeps the prior ``c0`` there, where the smallest ``c`` would forget the function.

References
    C. de Boor, "A Practical Guide to Splines", revised edition, Springer 2001, chapters XIII and XIV.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kan.bases.base import Basis
from kan.bases.bspline import SplineTable, bspline_basis, tabulate

__all__ = ["change_of_basis", "evaluate", "fitted", "interpolate", "least_squares", "refit", "solve"]

REFIT_NUMBERS = 2**20
"""Most entries of the design matrices that `refit` makes at a time, so few that caches hold them; an input's own matrix is never split."""

BATCHED = 64
"""Largest systems that are solved in one batch. With torch 2.13 and MKL, batches of larger ones can hang for good once the number of
threads has been changed, as `fit` does: two systems of size 203 after ``set_num_threads(1)`` and ``(2)`` did, two of 103 did not, nor did
one alone."""


def evaluate(x: Tensor, coef: Tensor, table: SplineTable) -> Tensor:
    """Splines ``s_io(x) = sum_m coef[i, o, m] B_m(x[b, i])``, shape ``(B, I, O)`` from `x` ``(B, I)``, `coef` ``(I, O, n)``."""
    return torch.einsum("bin,ion->bio", bspline_basis(x, table), coef)


def interpolate(sites: Tensor, values: Tensor, table: SplineTable) -> Tensor:
    """Coefficients of the splines through `values` at `sites`.

    Args:
        sites: ``(I, n)``, satisfying the Schoenberg-Whitney conditions (as `core_sites` and `support_sites` do).
        values: ``(I, n, O)``.
        table: the splines' table.

    Returns:
        ``(I, O, n)`` in the dtype of `values`.
    """
    design, target = _design(sites.t(), table), values.double()
    if design.shape[1] > BATCHED:
        coef = torch.stack([torch.linalg.solve(*each) for each in zip(design, target, strict=True)])
    else:
        coef = torch.linalg.solve(design, target)
    return coef.transpose(1, 2).to(values.dtype)


def least_squares(x: Tensor, y: Tensor, table: SplineTable, prior: Tensor | None = None) -> Tensor:
    """Coefficients that minimise ``sum_b (s_io(x_bi) - y_bio)^2``, the closest such to `prior`.

    Args:
        x: ``(B, I)`` sample positions.
        y: ``(B, I, O)`` sample values.
        table: the splines' table.
        prior: ``(I, O, n)``, kept where the samples determine nothing; zero when not given.

    Returns:
        ``(I, O, n)`` in the dtype of `y`; finite for finite input, also with fewer samples than functions, repeated or
        constant samples.
    """
    target = y.double().transpose(0, 1)
    start = None if prior is None else prior.double().transpose(1, 2)
    return solve(_design(x, table), target, start).transpose(1, 2).to(y.dtype)


def fitted(basis: Basis, grid: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The smallest coefficients that minimise ``sum_b (s_io(x_bi) - y_bio)^2``, for any basis.

    Args:
        basis: of the functions ``s_io``.
        grid: its grid, ``(I, P)``.
        x: ``(B, I)`` positions.
        y: ``(B, I, O)`` values.

    Returns:
        ``(I, O, n)`` in the dtype of `y`.
    """
    design = basis.rows(x.double().t(), basis.prepare(grid.double())).mT
    return solve(design, y.double().transpose(0, 1)).mT.to(y.dtype)


def refit(basis: Basis, coef: Tensor, old: Tensor, new: Tensor, samples: Tensor) -> Tensor:
    """Coefficients on the grid `new` of functions given on the grid `old`.

    Functions that the basis can represent on `new` are kept to round-off; of others this is the least-squares fit at the samples, the
    closest such to the function through the values at `Basis.sites`. Both are linear in the coefficients, so that an input needs one
    matrix (`change_of_basis`), however many functions there are.

    Args:
        basis: whose functions they are.
        coef: ``(I, O, n)``.
        old, new: grids ``(I, P)``.
        samples: ``(B, I)``.

    Returns:
        ``(I, O, n)`` in the dtype of `coef`.
    """
    step = max(1, REFIT_NUMBERS // (max(len(samples), basis.size) * basis.size))
    parts = zip(coef.split(step), old.split(step), new.split(step), samples.split(step, dim=1), strict=True)
    return torch.cat([(some.double() @ change_of_basis(basis, *grids)).to(coef.dtype) for some, *grids in parts])


def change_of_basis(basis: Basis, old: Tensor, new: Tensor, samples: Tensor) -> Tensor:
    """Coefficients on the grid `new` of every basis function on the grid `old`, as `refit` finds them.

    Args:
        basis: whose functions they are.
        old, new: grids ``(I, P)``.
        samples: ``(B, I)``.

    Returns:
        ``(I, n, n)`` in float64, one old function a row.
    """
    before, after = basis.prepare(old.double()), basis.prepare(new.double())
    sites, x = basis.sites(new.double()), samples.double().t()
    prior = solve(basis.rows(sites, after).mT, basis.rows(sites, before).mT)
    # What the samples say along directions that they hardly see is rounding, and the prior knows better.
    return solve(basis.rows(x, after).mT, basis.rows(x, before).mT, prior, cutoff=1e-8).mT


def solve(design: Tensor, target: Tensor, prior: Tensor | None = None, cutoff: float = 0.0) -> Tensor:
    """Least-squares solutions of ``design @ solution = target``, the closest such to `prior`, or the smallest.

    Args:
        design: ``(I, B, n)`` in float64.
        target: ``(I, B, O)`` in float64.
        prior: ``(I, n, O)`` in float64.
        cutoff: singular values below this share of the largest, and below round-off, count as zero.

    Returns:
        ``(I, n, O)``.
    """
    residual = target if prior is None else target - design @ prior
    q, r = torch.linalg.qr(design)
    u, s, vh = torch.linalg.svd(r, full_matrices=False)
    floor = s[..., :1] * max(cutoff, max(design.shape[-2:]) * torch.finfo(torch.float64).eps)
    inverse = torch.where(s > floor, 1 / torch.where(s > floor, s, 1.0), 0.0)
    step: Tensor = vh.mT @ (inverse[..., None] * (u.mT @ (q.mT @ residual)))
    return step if prior is None else prior + step


def _design(x: Tensor, table: SplineTable) -> Tensor:
    """Design matrices ``(I, B, n)`` in float64."""
    exact = table if table.knots.dtype == torch.float64 else tabulate(table.knots.double(), table.degree)
    return bspline_basis(x.double(), exact).transpose(0, 1)
