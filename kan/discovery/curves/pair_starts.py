"""Initial values for the inner constants of two combined functions, from a search on lattices; see `kan.discovery.curves.pairs`.

Each function is evaluated with the constants of every point of a lattice. Every pair of such curves is scored by the share of the labels'
variance that it explains, with the outer constants fitted by least squares. For sums all scores follow from one Gram matrix. Products and
compositions are scored one by one, in single precision.

Symbols: M curves (a function with the constants of one lattice point), L points of a lattice, n samples. The inputs z are mapped to t in
[-1, 1] such that ``t + offset`` is proportional to z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kan.symbolic.library import SymbolicFunction
from kan.symbolic.slopes import value_of
from kan.symbolic.starts import DOMAINS

__all__ = ["Pairs", "scan"]

STARTS_PER_PAIR = 4
"""Number of starts for each pair of functions."""
STARTS_PER_WAVE = 40
"""Number of starts for each function with a damped wave. There are few such pairs, so that more starts are affordable."""


class Pairs(NamedTuple):
    """The pair of functions of each of S starts.

    Attributes:
        kind: how the functions are combined, see `kan.discovery.curves.pairs.COMBINATIONS`.
        functions: all functions.
        first, second: the places of the two functions of each start in `functions`, ``(S,)`` each.
    """

    kind: str
    functions: list[SymbolicFunction]
    first: Tensor
    second: Tensor

    def take(self, index: Tensor) -> Pairs:
        """The pairs of some of the starts."""
        return self._replace(first=self.first[index], second=self.second[index])


def scan(kind: str, functions: list[SymbolicFunction], firsts: int, t: Tensor, y: Tensor, offset: float) -> tuple[Pairs, Tensor]:
    """The best starts of every pair of functions: the pairs, and the inner constants ``(S, 4)``.

    Args:
        kind: how two functions are combined: ``"composition"``, ``"sum"``, ``"product"`` or ``"wave"``.
        functions: the candidates for the first function, followed by those for the second one.
        firsts: number of candidates for the first function.
        t: inputs in [-1, 1], ``(n,)``.
        y: labels, centred and of norm 1, ``(n,)``.
        offset: value of ``-t`` where z is zero.
    """
    starts = {"composition": _composition_starts, "wave": _wave_starts}
    return starts.get(kind, _sum_and_product_starts)(kind, functions, firsts, t, y, offset)


def _lattice(function: SymbolicFunction, offset: float, inner: bool, kind: str) -> Tensor:
    """Points ``(alpha, beta)`` of the argument ``alpha t + beta`` of a function, without those that its symmetries make redundant.

    For the inner function of a pair, the points with an argument proportional to z are among them.
    """
    scaling, translation = function.symmetries.scaling, function.symmetries.translation
    beyond = 1 + torch.cat([torch.zeros(1), torch.arange(-12, 7, 2).double().exp2()]).double()
    natural = torch.tensor([offset]).double() if inner else torch.zeros(0).double()
    if scaling is not None and translation is not None:
        return _points([1.0], torch.cat([torch.linspace(-2, 2, 9).double(), natural]) if kind == "product" else torch.zeros(1).double())
    if translation is not None:
        rates = torch.arange(-3, 10).double().div(2).exp2()
        return _points(torch.cat([-rates, rates]), torch.zeros(1).double())
    if scaling is not None and function.symmetries.reflection is None:
        side = math.copysign(1.0, offset)
        points = _points([1.0, -1.0], beyond)
        return torch.cat([points, torch.tensor([[side, abs(offset)]]).double()]) if inner and abs(offset) >= 1 else points
    if scaling is not None and scaling[0] < 0:
        return _points([1.0], torch.cat([-beyond, beyond, natural]))
    if scaling is not None:
        return _points([1.0], torch.cat([torch.linspace(-1.5, 1.5, 9).double(), natural]))
    if function.torch_fun in DOMAINS:
        ends = torch.linspace(-math.pi / 2, math.pi / 2, 9).double().sin()
        a, b = torch.meshgrid(ends, ends, indexing="ij")
        points = torch.stack([(b - a) / 2, (a + b) / 2], -1).flatten(0, 1)
        return points[points[:, 0] != 0] if inner else points[points[:, 0] > 0]
    if function.torch_fun is torch.tan:
        return torch.cat([_points([rate], torch.linspace(-1.5 + rate, 1.5 - rate, 5).double()) for rate in (0.4, 0.8, 1.2, 1.4)])
    if function.symmetries.period is not None:
        rates = torch.linspace(0.5, 16, 32).double() if inner else torch.linspace(0.5, 9, 16).double()
        return _points(rates, torch.arange(6).double() * (math.pi / 6))
    rates = torch.arange(-1, 5 if inner else 4).double().exp2()
    a, place = torch.meshgrid(rates, torch.linspace(-1.25, 1.25, 9).double(), indexing="ij")
    natural_points = _points(rates, torch.zeros(1).double())
    natural_points[:, 1] = natural_points[:, 0] * (offset if inner else 0.0)
    return torch.cat([torch.stack([a, -a * place], -1).flatten(0, 1), natural_points])


def _points(a: Sequence[float] | Tensor, b: Tensor) -> Tensor:
    return torch.stack(torch.meshgrid(torch.as_tensor(a).double(), b, indexing="ij"), -1).flatten(0, 1)


def _lattice_curves(functions: Sequence[SymbolicFunction], lattices: Sequence[Tensor], t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The curves of all functions and lattice points that are finite and vary.

    Returns:
        The values ``(M, n)``, and for each curve the function ``(M,)`` and the point ``(M, 2)``.
    """
    values, which, points = [], [], []
    for k, (function, lattice) in enumerate(zip(functions, lattices, strict=True)):
        value = value_of(function, lattice[:, :1] * t + lattice[:, 1:])
        centred = value - value.mean(-1, keepdim=True)
        good = value.isfinite().all(-1) & (centred.norm(dim=-1) > 1e-6 * value.norm(dim=-1))
        values.append(value[good])
        points.append(lattice[good])
        which.append(torch.full((int(good.sum()),), k))
    return torch.cat(values), torch.cat(which), torch.cat(points)


def _composition_starts(
    kind: str, functions: list[SymbolicFunction], inner: int, t: Tensor, y: Tensor, offset: float
) -> tuple[Pairs, Tensor]:
    """Starts of ``g(a f(alpha t + beta) + b)``; the lattice of g is one of its argument when f is scaled to [-1, 1]."""
    values, which, points = _lattice_curves(functions[:inner], [_lattice(f, offset, True, kind) for f in functions[:inner]], t)
    middle, width = (values.amax(-1) + values.amin(-1)) / 2, (values.amax(-1) - values.amin(-1)) / 2
    inside = ((values - middle[:, None]) / width[:, None]).float()
    target = y.float()
    first, second, starts = [], [], []
    for k, outer in enumerate(functions[inner:], start=inner):
        if not len(values):
            break
        lattice = _lattice(outer, 0.0, False, kind)
        if outer.symmetries.reflection is None and outer.symmetries.scaling is None and outer.symmetries.period is None:
            lattice = torch.cat([lattice, lattice * lattice.new_tensor([-1.0, 1.0])]).unique(dim=0)
        u = inside[:, None] * lattice[:, :1].float() + lattice[:, 1:].float()  # (M, L, n)
        value = value_of(outer, u)
        value = value - value.mean(-1, keepdim=True)
        score = ((value @ target).square() / value.square().sum(-1)).nan_to_num(0.0, 0.0, 0.0)  # (M, L)
        best, place = score.max(-1)
        for i in range(inner):
            of_pair = (which == i).nonzero()[:, 0]
            if not len(of_pair):
                continue
            chosen = of_pair[best[of_pair].topk(min(STARTS_PER_PAIR, len(of_pair))).indices]
            a, b = lattice[place[chosen]].unbind(-1)
            slope = a / width[chosen]
            starts.append(torch.cat([points[chosen], torch.stack([slope, b - slope * middle[chosen]], -1)], -1))
            first += [i] * len(chosen)
            second += [k] * len(chosen)
    q = torch.cat(starts) if starts else t.new_zeros(0, 4)
    return Pairs(kind, functions, torch.tensor(first), torch.tensor(second)), q


def _sum_and_product_starts(
    kind: str, functions: list[SymbolicFunction], count: int, t: Tensor, y: Tensor, offset: float
) -> tuple[Pairs, Tensor]:
    """Starts of ``f + g`` or ``f g``, for which both functions are taken from the same list."""
    functions = functions[:count]
    values, which, points = _lattice_curves(functions, [_lattice(f, offset, True, kind) for f in functions], t)
    if kind == "sum":
        basis = values - values.mean(-1, keepdim=True)
        basis = basis / basis.norm(dim=-1, keepdim=True)
        along = basis @ y
        overlap = basis @ basis.mT
        gain = along[:, None].square() + along.square() - 2 * along[:, None] * along * overlap
        score = torch.where(1 - overlap.square() > 1e-7, gain / (1 - overlap.square()), 0.0)
    else:
        basis = values / values.norm(dim=-1, keepdim=True)
        basis = basis.float()
        total = basis @ basis.mT / len(t) ** 0.5  # mean of the product, times root n
        size = basis.square() @ basis.square().mT - total.square()
        along = (basis * y.float()) @ basis.mT
        score = torch.where(size > 1e-5 * total.square(), along.square() / size, 0.0).double()
    score = score.triu(diagonal=1)
    first, second, starts = [], [], []
    for i in range(count):
        rows = (which == i).nonzero()[:, 0]
        for j in range(i, count):
            columns = (which == j).nonzero()[:, 0]
            block = score[rows][:, columns].flatten()
            if not len(block):
                continue
            found = block.topk(min(STARTS_PER_PAIR, len(block))).indices
            starts.append(torch.cat([points[rows[found // len(columns)]], points[columns[found % len(columns)]]], -1))
            first += [i] * len(found)
            second += [j] * len(found)
    q = torch.cat(starts) if starts else t.new_zeros(0, 4)
    return Pairs(kind, functions, torch.tensor(first), torch.tensor(second)), q


def _wave_starts(kind: str, functions: list[SymbolicFunction], count: int, t: Tensor, y: Tensor, offset: float) -> tuple[Pairs, Tensor]:
    """Starts of a function plus a damped wave ``e^(kappa t) (c_2 sin omega t + c_3 cos omega t)``, the second function."""
    values, which, points = _lattice_curves(functions[:count], [_lattice(f, offset, True, kind) for f in functions[:count]], t)
    rates = torch.tensor([0.0, 0.4, 0.8, 1.3, 2.0, 3.0], dtype=torch.float64)
    waves = _points(torch.cat([-rates[1:], rates]), torch.linspace(0.5, 16, 48).double())
    size = (waves[:, :1] * t).exp()
    both = torch.stack([size * (waves[:, 1:] * t).sin(), size * (waves[:, 1:] * t).cos()], -1)
    span = torch.linalg.qr(both - both.mean(1, keepdim=True))[0].mT  # (W, 2, n)
    basis = values - values.mean(-1, keepdim=True)
    basis = basis / basis.norm(dim=-1, keepdim=True)
    along, overlap = span @ y, span @ basis.mT  # (W, 2), (W, 2, M)
    left = 1 - overlap.square().sum(1)
    gain = (basis @ y - (overlap * along[:, :, None]).sum(1)).square() / left.clamp_min(1e-6)
    score = torch.where(left > 1e-5, gain, 0.0) + along.square().sum(1)[:, None]  # (W, M)
    best, place = score.max(0)
    first, starts = [], []
    for i in range(count):
        of_function = (which == i).nonzero()[:, 0]
        chosen = of_function[best[of_function].topk(min(STARTS_PER_WAVE, len(of_function))).indices]
        starts.append(torch.cat([points[chosen], waves[place[chosen]]], -1))
        first += [i] * len(chosen)
    q = torch.cat(starts) if starts else t.new_zeros(0, 4)
    return Pairs(kind, functions, torch.tensor(first), torch.full((len(q),), count)), q
