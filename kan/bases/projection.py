r"""Interpolation and least squares: the coefficients of functions with given values, one problem per input.

The design matrix of an input, ``A[b, m] = B_m(x_b)``, does not depend on the output, so all outputs are right-hand sides of one
factorisation. Everything is solved in float64 and rounded once at the end.

Grid updates and refinement rest on three facts:

* A spline is determined by its values at ``n`` sites that satisfy the Schoenberg-Whitney conditions (site ``m`` inside the support of
  ``B_m``). At such sites (`core_sites`) interpolation reproduces, to round-off, every function that the new knots can represent, which
  makes refinement to a nested grid exact without any data.
* Where the new knots do not contain the old ones, the best approximation in the mean square over the whole interval needs no data either:
  the splines are polynomials between knots, for which Gauss's quadrature is exact. It is as good between samples as on them, which neither
  interpolation (for high degrees) nor least squares at the samples is.
* ``argmin |A c - y|`` has many solutions when the samples leave some spline undetermined. Writing ``c = c0 + d`` and taking the
  smallest ``d`` keeps the prior ``c0`` there, where the smallest ``c`` would forget the function.

At ordered points, the matrices of splines are banded, and only the band is stored (`kan.bases.banded`).

References
    C. de Boor, "A Practical Guide to Splines", revised edition, Springer 2001, chapters XIII and XIV.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kan.bases.banded import solve_banded
from kan.bases.base import Basis
from kan.bases.bspline import SplineTable, bspline_basis, tabulate
from kan.bases.knots import core, support_sites
from kan.bases.spline_rows import local_values
from kan.kernels import splines

__all__ = ["carried_over", "change_of_basis", "evaluate", "fitted", "interpolate", "least_squares", "refit", "solve"]

REFIT_NUMBERS = 2**20
"""Largest number of entries in the design matrices that `refit` computes at a time, so that they fit into the cache. The matrix of a single
input is never split."""

HARDLY_SEEN = 1e-5
"""Singular value of a design matrix, relative to the largest, below which the prior is kept. The samples hardly determine such a component,
and a residual that no spline can represent would be amplified between them by its reciprocal."""
QUADRATURE_NUMBERS = 2**22
"""Largest number of function values that `carried_over` computes at a time. Those of a single input are never split."""
MAX_RELATIVE_ERROR = 16.0
"""Error on the whole interval, as a multiple of the least possible one, up to which the fit at the samples is preferred. Sixty samples of
splines of degree 5 led to 10; samples that leave some spline undetermined lead to thousands and more."""


def evaluate(x: Tensor, coef: Tensor, table: SplineTable) -> Tensor:
    """Evaluate splines ``s_io(x) = sum_m coef[i, o, m] B_m(x[b, i])``, ``(B, I, O)``, for `x` ``(B, I)`` and `coef` ``(I, O, n)``."""
    return _values(x.t(), coef, table).transpose(0, 1)


def interpolate(sites: Tensor, values: Tensor, table: SplineTable) -> Tensor:
    """Return the coefficients of the splines that have `values` at `sites`.

    Args:
        sites: ``(I, n)``, satisfying the Schoenberg-Whitney conditions (as `core_sites` and `support_sites` do).
        values: ``(I, n, O)``.
        table: the splines' table.

    Returns:
        ``(I, O, n)`` in the dtype of `values`.
    """
    exact, k = _exact(table), table.degree
    local = local_values(sites.double(), exact)
    place = torch.arange(k + 1, device=sites.device) + local.first[..., None] - torch.arange(exact.size, device=sites.device)[:, None] + k
    # Round-off may move a site across a knot, where the function that is outside of the band is practically zero.
    band = torch.zeros(*sites.shape, 2 * k + 1, dtype=torch.float64, device=sites.device)
    band.scatter_add_(2, place.clamp(0, 2 * k), local.values.movedim(0, 2))
    return solve_banded(band, values.double()).transpose(1, 2).to(values.dtype)


def carried_over(
    coef: Tensor, table: SplineTable, new: SplineTable, ends: Tensor, samples: Tensor | None = None, largest: float = MAX_RELATIVE_ERROR
) -> Tensor:
    """Return the coefficients on the knots of `new` of given splines ``s_io``, which should remain the same functions between `ends`.

    They remain the same up to round-off where the new knots contain the old ones. Elsewhere the new splines are the best approximations in
    the mean square over the whole interval. The least-squares fit at the samples, if there are any, is preferred if its distance from the
    old splines on the interval is at most `largest` times that of the best approximation.

    Args:
        coef: coefficients ``(I, O, n)`` of the given splines.
        table: the table of the given splines.
        new: the table of other knots and the same degree.
        ends: ends of the intervals, ``(I, 2)``. The core of `new` is added to them, since it is needed to determine the coefficients.
        samples: positions ``(B, I)``.
        largest: largest ratio of the two distances.

    Returns:
        ``(I, O, n')`` in float64.
    """
    coef, old, new, (low, high) = coef.double(), _exact(table), _exact(new), ends.double().split(1, dim=1)
    changed = ~_contains(new.knots, old.knots, low, high, 8 * torch.finfo(table.knots.dtype).eps)
    if bool(changed.all()):
        found = coef.new_empty(*coef.shape[:2], new.size)
    else:
        sites = support_sites(new.knots.clamp(low, high), new.degree)
        found = interpolate(sites, evaluate(sites.t(), coef, old).transpose(0, 1), new)
        found += 0 * coef.sum(2, keepdim=True)  # coefficients that are not finite stay so, even far from every site
    if not bool(changed.any()):
        return found
    grid = core(new.knots, new.degree)
    low, high = torch.minimum(low, grid[:, :1]), torch.maximum(high, grid[:, -1:])
    step = max(1, QUADRATURE_NUMBERS // (coef.shape[1] * (old.degree + 1) * (old.knots.shape[1] + new.knots.shape[1])))
    for some in changed.nonzero()[:, 0].split(step):
        own, old_own, new_own = coef[some], old.taken(some), new.taken(some)
        best, error, gram = _closest(own, old_own, new_own, low[some], high[some])
        if samples is not None:
            x = samples[:, some].double()
            fit = least_squares(x, evaluate(x, own, old_own), new_own, best)
            farther = _mean_square(fit - best, gram)
            best = torch.where((farther <= (largest**2 - 1) * error)[:, None, None], fit, best)
        found[some] = best + 0 * own.sum(2, keepdim=True)
    return found


def least_squares(x: Tensor, y: Tensor, table: SplineTable, prior: Tensor | None = None) -> Tensor:
    """Return coefficients that minimise ``sum_b (s_io(x_bi) - y_bio)^2``; of several, those closest to `prior`.

    Args:
        x: ``(B, I)`` sample positions.
        y: ``(B, I, O)`` sample values.
        table: the splines' table.
        prior: coefficients ``(I, O, n)``, kept where the samples do not determine them; zero by default.

    Returns:
        ``(I, O, n)`` in the dtype of `y`; finite for finite input, also with fewer samples than functions, repeated or
        constant samples.
    """
    target, design = y.double().transpose(0, 1), _design(x, table)
    if prior is None:
        return solve(design, target).transpose(1, 2).to(y.dtype)
    return solve(design, target, prior.double().transpose(1, 2), HARDLY_SEEN).transpose(1, 2).to(y.dtype)


def fitted(basis: Basis, grid: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the smallest coefficients that minimise ``sum_b (s_io(x_bi) - y_bio)^2``, for any basis.

    Args:
        basis: the basis of the functions ``s_io``.
        grid: its grid, ``(I, P)``.
        x: ``(B, I)`` positions.
        y: ``(B, I, O)`` values.

    Returns:
        ``(I, O, n)`` in the dtype of `y`.
    """
    design = basis.rows(x.double().t(), basis.prepare(grid.double())).mT
    return solve(design, y.double().transpose(0, 1)).mT.to(y.dtype)


def refit(basis: Basis, coef: Tensor, old: Tensor, new: Tensor, samples: Tensor | None, into: Basis | None = None) -> Tensor:
    """Coefficients on the grid `new` of functions given on the grid `old`.

    Functions that the basis can represent on `new` are kept up to round-off. For other functions the result is the least-squares fit at the
    samples, or at points all over the interval if the former would be far from the function between the samples, as in `carried_over`.
    Both are linear in the coefficients, so that each input needs one matrix (`change_of_basis`) for any number of functions.

    Args:
        basis: the basis of the functions.
        coef: ``(I, O, n)``.
        old: their grid, ``(I, P)``.
        new: the other grid, ``(I, P')``.
        samples: ``(B, I)``, or None to go without.
        into: the basis on the grid `new`; the same as on the old one when not given.

    Returns:
        ``(I, O, n')`` in the dtype of `coef`.
    """
    into = basis if into is None else into
    size = max(basis.size, into.size)
    step = max(1, REFIT_NUMBERS // (max(0 if samples is None else len(samples), size) * size))
    found = []
    for first in range(0, len(coef), step):
        part = slice(first, first + step)
        change = change_of_basis(basis, old[part], new[part], None if samples is None else samples[:, part], into)
        found.append((coef[part].double() @ change).to(coef.dtype))
    return torch.cat(found)


def change_of_basis(basis: Basis, old: Tensor, new: Tensor, samples: Tensor | None, into: Basis | None = None) -> Tensor:
    """Coefficients on the grid `new` of every basis function on the grid `old`, as `refit` finds them; arguments as there.

    Returns:
        ``(I, n, n')`` in float64, one old function a row.
    """
    into = basis if into is None else into
    before, after = basis.prepare(old.double()), into.prepare(new.double())
    points = _between(into.sites(new.double()))
    design, target = into.rows(points, after).mT, basis.rows(points, before).mT
    closest = solve(design, target)
    if samples is None:
        return closest.mT
    x = samples.double().t()
    fit = solve(into.rows(x, after).mT, basis.rows(x, before).mT, closest, cutoff=HARDLY_SEEN)
    error = (design @ closest - target).square().sum((1, 2))
    farther = (design @ (fit - closest)).square().sum((1, 2))
    return torch.where((farther <= (MAX_RELATIVE_ERROR**2 - 1) * error)[:, None, None], fit, closest).mT


def _between(sites: Tensor) -> Tensor:
    """Return the `sites` ``(I, n)`` in order, with three more points between any two neighbours."""
    ordered = sites.sort(1).values
    shares = torch.arange(4, dtype=sites.dtype, device=sites.device) / 4
    inner = torch.lerp(ordered[:, :-1, None], ordered[:, 1:, None], shares)
    return torch.cat([inner.flatten(1), ordered[:, -1:]], 1)


def solve(design: Tensor, target: Tensor, prior: Tensor | None = None, cutoff: float = 0.0) -> Tensor:
    """Return the least-squares solutions of ``design @ solution = target`` that are closest to `prior`, or smallest.

    Args:
        design: ``(I, B, n)`` in float64.
        target: ``(I, B, O)`` in float64.
        prior: ``(I, n, O)`` in float64.
        cutoff: singular values below this multiple of the largest, and below round-off, are treated as zero.

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
    """Return the design matrices ``(I, B, n)`` in float64."""
    return bspline_basis(x.double(), _exact(table)).transpose(0, 1)


def _exact(table: SplineTable) -> SplineTable:
    """Return the table in float64."""
    return table if table.knots.dtype == torch.float64 else tabulate(table.knots.double(), table.degree)


def _values(x: Tensor, coef: Tensor, table: SplineTable) -> Tensor:
    """Evaluate splines with coefficients `coef` ``(I, O, n)`` at `x` ``(I, B)`` from the ``k + 1`` local functions: ``(I, B, O)``."""
    found = splines.values(x, coef, table)
    if found is not None:
        return found
    local, functions = local_values(x.contiguous(), table), coef.transpose(1, 2)
    total = coef.new_zeros(*x.shape, coef.shape[1])
    for m, values in enumerate(local.values):
        total += values[..., None] * functions.gather(1, (local.first + m)[..., None].expand_as(total))
    return total


def _contains(knots: Tensor, old: Tensor, low: Tensor, high: Tensor, eps: float) -> Tensor:
    """Return for which inputs `knots` contain all `old` ones between `low` and `high` ``(I, 1)``, up to the relative error `eps`."""
    rounding = eps * knots.abs().amax(dim=1, keepdim=True)
    place = torch.searchsorted(knots.contiguous(), old.contiguous()).clamp(1, knots.shape[1] - 1)
    distance = torch.minimum((knots.gather(1, place) - old).abs(), (knots.gather(1, place - 1) - old).abs())
    counts = (old > low + rounding) & (old < high - rounding)
    return ((distance <= rounding) | ~counts).all(dim=1)


@lru_cache(maxsize=16)
def _gauss_legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(count)


def _quadrature(knots: Tensor, degree: int, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return points and weights ``(I, Q)`` for means over ``[low, high]``, exact for products of two splines on subsets of the `knots`."""
    ends = knots.clamp(low, high).sort(1).values
    nodes, weights = (torch.from_numpy(each).to(knots) for each in _gauss_legendre(degree + 1))
    half, middle = ends.diff(dim=1)[..., None] / 2, (ends[:, 1:] + ends[:, :-1])[..., None] / 2
    return (middle + half * nodes).flatten(1), (half * weights).flatten(1) / (high - low)


def _mean_square(coef: Tensor, gram: Tensor) -> Tensor:
    """Return the mean squares of splines, summed over the outputs ``(I,)``, from the banded Gram matrices of `_closest`."""
    size, width = gram.shape[1:]
    around = F.pad(coef, (width // 2, width // 2)).unfold(2, size, 1)  # (I, O, 2k + 1, n)
    return torch.einsum("ion,ind,iodn->i", coef, gram, around)


def _closest(coef: Tensor, old: SplineTable, new: SplineTable, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best approximations ``(I, O, n')``, their mean squared errors summed over the outputs ``(I,)``, and Gram matrices.

    The latter are means of products of the new functions over the intervals, ``(I, n', 2k + 1)``, banded.
    """
    nodes_and_weights = torch.from_numpy(np.stack(_gauss_legendre(old.degree + 1)))
    found = splines.closest(coef, old, new, torch.cat([low, high], 1), nodes_and_weights)
    if found is not None:
        return found
    x, weight = _quadrature(torch.cat([old.knots, new.knots], 1), old.degree, low, high)
    values, local = _values(x, coef, old), local_values(x.contiguous(), new)
    (inputs, size), k = (len(coef), new.size), new.degree
    # Each point contributes to the normal equations of the k + 1 functions around it.
    target = weight[..., None] * values
    band, moments = target.new_zeros(inputs, size * (2 * k + 1)), target.new_zeros(inputs, size, target.shape[2])
    for m, ours in enumerate(local.values):
        moments.scatter_add_(1, (local.first + m)[..., None].expand_as(target), ours[..., None] * target)
        for other, theirs in enumerate(local.values):
            band.scatter_add_(1, (local.first + m) * (2 * k + 1) + other - m + k, weight * ours * theirs)
    gram = band.unflatten(1, (size, -1))
    best = solve_banded(gram, moments).transpose(1, 2)
    return best, (weight[..., None] * (_values(x, best, new) - values).square()).sum((1, 2)), gram
