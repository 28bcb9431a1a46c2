r"""How far a function of several variables is from having a given structure, measured at recombined samples.

Let ``x`` be a sample and ``x^A`` the same sample with the variables of the group ``A`` taken from another one. Let ``f`` be the function,
``g`` its gradient and ``R`` all variables outside of ``A``. If ``f`` has one of the following structures, the equation beside it holds for
all pairs of samples. On a box the converse is true as well, for the last two where the gradient does not vanish:

* ``f`` does not depend on ``x_k``: ``f(x^k) = f(x)``;
* a sum, ``f = h(x_A) + k(x_R)``: ``f(x) - f(x^A) = f(x^R) - f(x^{AR})``;
* a product, ``f = h(x_A) k(x_R)``: ``f(x) f(x^{AR}) = f(x^A) f(x^R)``;
* a symmetry, ``f = F(h(x_A), x_R)``: ``g_i(x) g_j(x^k) = g_j(x) g_i(x^k)`` for ``i, j`` in ``A`` and ``k`` outside of it;
* a function of a sum, ``f = F(h(x_A) + k(x_B), rest)``: the ratio ``r = g_p / g_q`` is a product of a function of ``x_A`` and one of
  ``x_B``, ``r(x) r(x^{AB}) = r(x^A) r(x^B)`` for ``p`` in ``A`` and ``q`` in ``B``. A function of a product, ``F(h k)``, is a function of a
  sum of logarithms, and satisfies the equation even where its factors change their sign.

No equation has a division, so that zeros of ``f`` or of its slopes do no harm. None needs a second derivative, since those of a trained
model are far less accurate than its values.

The miss of an equation ``L = R`` is the weighted root mean square of ``L - R`` divided by that of ``|L| + |R|``. It is 0 if the equation
holds, about 0.5 if the two sides are unrelated, and at most 1. A pair of samples has the weight ``1 / (s + median s)`` with ``s = |L| +
|R|``, so that poles do not dominate and zeros count less than the rest. The rounding errors of both sides are averaged in the same way. If
the miss is at most a multiple of their average, the equation holds as far as the numbers can show.

References
    W. M. Gorman, "The structure of utility functions", Review of Economic Studies 35 (1968) 367.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kan.analysis.derivatives import batch_jacobian
from kan.analysis.probe import Group, Model, Probe

__all__ = ["MAX_ROUNDING", "Miss", "Misses", "worst"]

SAMPLES = 500
"""Number of points that are recombined, each with two samples. Of more samples, evenly spaced ones are the points; if there are fewer,
recombinations of them are points, too."""
PARTNERS = 2
"""Number of randomly drawn samples with which each point is recombined."""
LARGEST_TABLE = 1e6
"""Largest number of entries of a table over points and pairs of variables. With more than 40 variables it reduces the number of points."""
ROUNDING_OF_VALUES, ROUNDING_OF_SLOPES = 20.0, 500.0
"""Factors by which the smallest possible rounding errors, of values and of slopes, are multiplied; an equation that misses by less holds.
Among the equations that hold for 40 functions, in two precisions, none missed by more than 0.01 times this. The remaining margin is for
numbers that cancel within a model."""
MAX_ROUNDING = 1e-2
"""Rounding error of an equation, relative to its two sides, from which on the equation is taken not to hold, whatever its miss."""

LEAST_SHARE = 0.05
"""Smallest share of the pairs of samples in which the two sides must not both be zero, for an equation to be judged. Zeros on both sides,
as beyond a kink, satisfy every equation and are hardly evidence."""


@dataclass(frozen=True)
class Miss:
    """How far an equation is from holding, and the miss that rounding errors alone may cause.

    Attributes:
        size: the miss, between 0 and 1; NaN if both sides are zero in nearly all pairs of samples.
        rounding: the smallest miss that can be distinguished from 0.
    """

    size: float
    rounding: float

    def within(self, tolerance: float) -> bool:
        """Whether the equation holds within `tolerance` or rounding errors. It does not if it could not be judged."""
        return self.size <= max(tolerance, self.rounding) and self.rounding < MAX_ROUNDING


def worst(misses: Iterable[Miss]) -> Miss:
    """The miss with the largest size, where NaN counts as larger than any number."""
    return max(misses, key=lambda miss: (miss.size != miss.size, miss.size))


class Misses:
    """The misses of a model at samples, from values and gradients that are computed once.

    Samples and recombinations where the model is not a number are left out. A network remembers the last input that it was called with;
    therefore it is called with `x` again at the end of a ``with`` block.

    Args:
        model, x: see `kan.analysis.hypothesis`.

    Raises:
        TypeError, ValueError: as of `Probe`.

    >>> x = torch.rand(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> misses = Misses(lambda x: x[:, 0] + x[:, 1] * x[:, 2], x)
    >>> misses.sum([0]).within(0.0), misses.sum([1]).within(0.0), misses.product([1]).within(0.0)
    (True, False, False)
    """

    def __init__(self, model: Model, x: Tensor) -> None:
        self._probe = Probe(model, x)
        self.size = self._probe.size
        x = x.detach()
        y = self._called(x)
        known = y.isfinite() & x.isfinite().all(dim=1)
        x, y = x[known], y[known]
        # Partners are drawn, since neighbours in a table are often alike. The generator is local, so the global random state is untouched.
        generator = torch.Generator().manual_seed(0)
        count = min(SAMPLES, max(int(LARGEST_TABLE / (PARTNERS * self.size**2 / 2)), 2)) if len(x) else 0
        if len(x) > count:
            points = x[torch.linspace(0, len(x) - 1, count).round().long().to(x.device)]
        else:
            rows = torch.randint(max(len(x), 1), (count - len(x), self.size), generator=generator).to(x.device)
            points = torch.cat([x, x.gather(0, rows)])
        partners = torch.randint(max(len(x), 1), (PARTNERS * count,), generator=generator).to(x.device)
        self._x, self._other = points.repeat(PARTNERS, 1), x[partners]
        self._scale = x.std(dim=0) if len(x) > 1 else torch.zeros_like(x.sum(dim=0))
        self._eps = max(torch.finfo(dtype).eps for dtype in (x.dtype, y.dtype) if dtype.is_floating_point)
        self._enough = len(x) > 1
        self.spread = float(y.std()) if len(x) > 1 else 0.0
        self._values: dict[frozenset[int], Tensor] = {}
        self._gradients: dict[frozenset[int], Tensor] = {}
        self._symmetries: dict[int, tuple[Tensor, Tensor]] = {}

    def __enter__(self) -> Misses:
        return self

    def __exit__(self, *_: object) -> None:
        self._called(self._probe.x)

    def effect(self, k: int) -> Miss:
        """The miss of the claim that the function does not depend on variable `k`."""
        f, changed = self._f([]), self._f([k])
        if self.unused(k):
            return Miss(0.0, 0.0)
        middle = f.median() if len(f) else torch.nan
        return self._miss(changed - f, (f - middle).abs() + (changed - middle).abs(), self._rounding(f, changed))

    def unused(self, k: int) -> bool:
        """Whether the values are exactly the same when variable `k` is changed."""
        return self._enough and torch.equal(*(torch.where(f.isfinite(), f, 0.0) for f in (self._f([]), self._f([k]))))

    def sum(self, group: Group) -> Miss:
        """The miss of a sum of a function of `group` and one of all other variables."""
        f, a, r, both = self._corners(group)
        return self._of_values(f - a, r - both, self._rounding(f, a, r, both))

    def product(self, group: Group) -> Miss:
        """The miss of a product of a function of `group` and one of all other variables."""
        f, a, r, both = self._corners(group)
        mixed = f - a - r + both
        # The equation written in differences of f: a large constant part of f would hide the miss of the products themselves.
        left, right = f * mixed, (f - a) * (f - r)
        return self._of_values(left, right, self._rounding(f, a, r, both) * (f.abs() + (f - a).abs() + (f - r).abs()))

    def symmetries(self, k: int) -> tuple[Tensor, Tensor]:
        """Sizes and rounding errors of the misses of a symmetry of ``x_i`` and ``x_j`` against ``x_k``, ``(n, n)`` each."""
        if k not in self._symmetries:
            i, j = torch.triu_indices(self.size, self.size, offset=1, device=self._x.device)
            g, h = self._g([]).T, self._g([k]).T
            changed = self._x[:, k] != self._other[:, k]
            left, right = torch.where(changed, g[i] * h[j], torch.nan), g[j] * h[i]
            size = left.abs() + right.abs()
            found, rounding = self._misses(left - right, size, ROUNDING_OF_SLOPES * 2 * self._eps * size)
            # A variable without effect has no slope and is compatible with every group.
            unused = torch.tensor([self.unused(v) for v in range(self.size)], device=found.device)
            table = torch.zeros(2, self.size, self.size, dtype=found.dtype, device=found.device)
            table[:, i, j] = torch.stack([found, rounding]).masked_fill(unused[i] | unused[j], 0.0)
            table += table.mT.clone()
            self._symmetries[k] = table[0], table[1]
        return self._symmetries[k]

    def symmetry(self, group: Group, rest: Group) -> Miss:
        """The miss of the claim that `group` acts through one function; the worst over the variables in `rest`."""
        found = [Miss(0.0, 0.0)]
        for k in rest:
            size, rounding = (both[list(group)][:, list(group)] for both in self.symmetries(k))
            above = torch.ones_like(size, dtype=torch.bool).triu(diagonal=1)
            found += [Miss(*pair) for pair in zip(size[above].tolist(), rounding[above].tolist(), strict=True)]
        return worst(found)

    def general(self, first: Group, second: Group, one: Group | None = None, other: Group | None = None) -> Miss:
        """The miss of a function of a sum of a function of `first` and one of `second`, for any values of the rest.

        The ratio of a slope in `first` to a slope in `second` must be a product of a function of `one` and a function of `other`. These
        are `first` and `second` when not given. The result is the worst miss over all such ratios.
        """
        one, other = list(first if one is None else one), list(second if other is None else other)
        changed = (self._x[:, one] != self._other[:, one]).any(dim=1) & (self._x[:, other] != self._other[:, other]).any(dim=1)
        slopes = [self._g(corner) for corner in ([], one, other, one + other)]
        found = [Miss(0.0, 0.0)]
        for p in (p for p in first if not self.unused(p)):
            for q in (q for q in second if not self.unused(q)):
                (p0, q0), (pa, qa), (pb, qb), (pab, qab) = (_shortened(g[:, [p, q]]) for g in slopes)
                left, right = torch.where(changed, p0 * pab * qa * qb, torch.nan), q0 * qab * pa * pb
                found.append(self._equation(left, right, ROUNDING_OF_SLOPES * 4 * self._eps * (left.abs() + right.abs())))
        return worst(found)

    def _corners(self, group: Group) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rest = [i for i in range(self.size) if i not in set(group)]
        return self._f([]), self._f(group), self._f(rest), self._f(range(self.size))

    def _at(self, taken: Sequence[int]) -> Tensor:
        x = self._x.clone()
        x[:, list(taken)] = self._other[:, list(taken)]
        return x

    @torch.no_grad()
    def _called(self, x: Tensor) -> Tensor:
        return self._probe.values(x).detach()

    def _f(self, taken: Sequence[int]) -> Tensor:
        key = frozenset(taken)
        if key not in self._values:
            self._values[key] = self._called(self._at(taken))
        return self._values[key]

    def _g(self, taken: Sequence[int]) -> Tensor:
        """Gradients with the variables in `taken` recombined, each slope multiplied by the standard deviation of its variable."""
        key = frozenset(taken)
        if key not in self._gradients:
            self._gradients[key] = batch_jacobian(self._probe.values, self._at(taken)).detach() * self._scale
        return self._gradients[key]

    def _rounding(self, *values: Tensor) -> Tensor:
        return ROUNDING_OF_VALUES * self._eps * torch.stack(values).abs().sum(dim=0)

    def _equation(self, left: Tensor, right: Tensor, rounding: Tensor) -> Miss:
        return self._miss(left - right, left.abs() + right.abs(), rounding)

    def _of_values(self, left: Tensor, right: Tensor, rounding: Tensor) -> Miss:
        """The miss of an equation between values. Unlike one between slopes, it holds if both sides are zero everywhere."""
        known = (left - right).isfinite()
        nothing = self._enough and bool(known.any()) and not bool((left[known].abs() + right[known].abs()).any())
        return Miss(0.0, 0.0) if nothing else self._equation(left, right, rounding)

    def _miss(self, difference: Tensor, size: Tensor, rounding: Tensor) -> Miss:
        found, rounded = self._misses(difference, size, rounding)
        return Miss(float(found), float(rounded))

    def _misses(self, difference: Tensor, size: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
        """Sizes and rounding errors of misses along the last dimension, from the pairs of samples where all numbers are finite."""
        known = difference.isfinite() & size.isfinite() & rounding.isfinite()
        nan = torch.full_like(size, torch.nan)
        usual = torch.where(known & (size > 0), size, nan).nanmedian(dim=-1).values if size.shape[-1] else size.sum(dim=-1) * torch.nan
        weight = 1 / (size + usual[..., None])
        whole = _norm(size * weight, known)
        few = (known & (size > 0)).sum(dim=-1) < LEAST_SHARE * known.sum(dim=-1)
        whole = torch.where(few, torch.nan, whole)
        return _norm(difference * weight, known) / whole, _norm(rounding * weight, known) / whole


def _shortened(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Both columns divided by one number per row, so that no row is longer than 1 and the order of lengths is kept."""
    length = pairs.norm(dim=1)
    usual = torch.where(length > 0, length, torch.nan).nanmedian() if len(pairs) else torch.ones_like(length.sum())
    short = pairs / (length + torch.where(usual > 0, usual, 1.0))[:, None]
    return short[:, 0], short[:, 1]


def _norm(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, torch.zeros_like(values)).square().sum(dim=-1).sqrt()
