r"""The linear parameters and the quality of a fit, on all samples.

For given :math:`(a, b)` the pair :math:`(c, d)` of :math:`y \approx c\,f(a x + b) + d` is a linear least-squares problem. With
:math:`\bar F` the centred samples of :math:`f(a x + b)` and :math:`\bar y` the centred data,

.. math:: c = \langle \bar F, \bar y\rangle / \|\bar F\|^2, \qquad
          1 - R^2(a, b) = \|\bar y - c \bar F\|^2 / \|\bar y\|^2 .

Sums are taken over pieces of bounded size, so that temporaries do not grow with the number of samples.
"""

__all__ = ["SUM_SAMPLES", "SampledCurves", "fit_linear_parameters", "subsample"]

from typing import NamedTuple

import torch
from torch import Tensor

from .function import SymbolicFunction
from .slopes import value_of
from .symmetries import canonicalise

SEARCH_SAMPLES = 2**15
"""Largest number of samples of a curve that the search for (a, b) uses; longer curves are subsampled."""

SUM_SAMPLES = 2**20
"""Number of samples over which c, d and R^2 are summed at a time."""


def subsample(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return at most about `SEARCH_SAMPLES` of the samples (E, N).

    They include the smallest and the largest abscissa; the others are drawn at random, and are the same at every call.
    """
    n = x.shape[1]
    if n <= SEARCH_SAMPLES:
        return x, y
    chosen = torch.randint(n, (SEARCH_SAMPLES,), generator=torch.Generator().manual_seed(0)).to(x.device).expand(x.shape[0], -1)
    chosen = torch.cat([chosen, x.argmin(-1, keepdim=True), x.argmax(-1, keepdim=True)], -1)
    return x.gather(1, chosen), y.gather(1, chosen)


class SampledCurves(NamedTuple):
    """Samples of E curves, with the quantities that the fit of every function to them needs.

    Args:
        pieces: The samples x and y, (E, n) each, in pieces of bounded size.
        mean: Means of y, (E,).
        total: Sums of squares of y about the mean, (E,).
        constant: Whether y is constant up to round-off, (E,).
        largest: Largest absolute values of x, (E,).
    """

    pieces: list[tuple[Tensor, Tensor]]
    mean: Tensor
    total: Tensor
    constant: Tensor
    largest: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> "SampledCurves":
        """Prepare samples x and y of shape (E, N)."""
        pieces = list(zip(x.split(SUM_SAMPLES, -1), y.split(SUM_SAMPLES, -1), strict=True))
        mean = y.mean(-1)
        total = torch.stack([(part - mean[:, None]).square().sum(-1) for _, part in pieces]).sum(0)
        constant = total <= y.shape[-1] * (8 * torch.finfo(x.dtype).eps * y.abs().amax(-1)).square()
        return cls(pieces, mean, total, constant, x.abs().amax(-1))


def fit_linear_parameters(function: SymbolicFunction, curves: SampledCurves, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(a, b, c, d)``, shape (E, 4), and 1 - R^2, shape (E,), for given ``a`` and ``b`` of shape (E,).

    A curve that is constant, or on which the function is not finite, gets c = 0, d = mean(y) and 1 - R^2 = 1.
    """
    pieces, mean, total, constant, largest = curves
    affine = canonicalise(torch.stack([a, b, torch.ones_like(a), torch.zeros_like(a)], -1), function.symmetries)
    a, b = affine[:, 0], affine[:, 1]
    n = sum(part.shape[-1] for part, _ in pieces)
    affine = torch.zeros_like(affine)
    deficit = torch.ones_like(mean)
    found_any = torch.zeros_like(constant)
    # Round-off may push the outermost sample out of the domain of f. The tries step back by that much.
    slack = 4 * torch.finfo(a.dtype).eps * (a.abs() * largest + b.abs())
    for a_try, b_try in ((a, b), (a, b + slack), (a, b - slack), (a * (1 - slack), b * (1 - slack))):

        def value(part: Tensor, a: Tensor = a_try, b: Tensor = b_try) -> Tensor:
            return value_of(function, a[:, None] * part + b[:, None])

        first = value(pieces[0][0]) if len(pieces) == 1 else None
        level = torch.stack([(value(part) if first is None else first).sum(-1) for part, _ in pieces]).sum(0) / n
        products = torch.zeros_like(mean)
        squares = torch.zeros_like(mean)
        for part, target in pieces:
            centred = (value(part) if first is None else first) - level[:, None]
            products += (centred * (target - mean[:, None])).sum(-1)
            squares += centred.square().sum(-1)
        c = products / squares
        found = canonicalise(torch.stack([a_try, b_try, c, mean - c * level], dim=-1), function.symmetries)
        rss = torch.zeros_like(mean)
        for part, target in pieces:
            fitted = found[:, 2:3] * value_of(function, found[:, :1] * part + found[:, 1:2]) + found[:, 3:]
            rss += (target - fitted).square().sum(-1)
        quality = rss / total
        good = quality.isfinite() & (quality < deficit) & ~constant
        affine = torch.where(good[:, None], found, affine)
        deficit = torch.where(good, quality, deficit)
        found_any |= good
        if bool((good | constant).all()):
            break
    if not bool(found_any.all()):
        # With c = 0 the curve is d, provided that f is finite. Every function of the library is finite at 1/2.
        finite = torch.stack([value_of(function, part).isfinite().all(-1) for part, _ in pieces]).all(0)
        constant_fit = torch.stack([finite.to(mean), torch.where(finite, 0.0, 0.5).to(mean), torch.zeros_like(a), mean], dim=-1)
        affine = torch.where(found_any[:, None], affine, constant_fit)
    return affine, deficit
