r"""Starts for the constants inside two functions that meet, from lattices; see `kan.discovery.curves.pairs`.

Every pair of points of the lattices is scored by the share of the labels' variance that it leaves, the constants outside projected out:
for sums from the Gram matrix of all values, for products and compositions one by one in single precision.

Symbols: M atoms (a function at a point of its lattice), L points of a lattice, n samples; t is z moved to [-1, 1], zero is at -where.
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

PER_PAIR = 4
"""Starts of a pair of functions."""
WAVES = 40
"""Of a function and a damped wave, which are few pairs."""


class Pairs(NamedTuple):
    """S starts with the functions of each."""

    kind: str
    functions: list[SymbolicFunction]
    first: Tensor  # (S,)
    second: Tensor  # (S,)

    def take(self, index: Tensor) -> Pairs:
        """Some of them."""
        return self._replace(first=self.first[index], second=self.second[index])


def scan(kind: str, functions: list[SymbolicFunction], firsts: int, t: Tensor, y: Tensor, where: float) -> tuple[Pairs, Tensor]:
    """Starts ``(S, 4)`` for samples t and y, ``(n,)``, with y centred and of norm 1.

    Args:
        kind: how two functions meet: ``"nest"``, ``"sum"``, ``"product"`` or ``"wave"``.
        functions: the first ones, `firsts` of them, then the second ones.
        firsts: see there.
        t, y: samples.
        where: t is -where where z is zero.
    """
    scans = {"nest": _scanned_nests, "wave": _scanned_waves}
    return scans.get(kind, _scanned_pairs)(kind, functions, firsts, t, y, where)


def _lattice(function: SymbolicFunction, where: float, inner: bool, kind: str) -> Tensor:
    """Points (alpha, beta) for ``u = alpha t + beta`` with t in [-1, 1]; t = -where is where z is zero."""
    scaling, translation = function.symmetries.scaling, function.symmetries.translation
    beyond = 1 + torch.cat([torch.zeros(1), torch.arange(-12, 7, 2).double().exp2()]).double()
    natural = torch.tensor([where]).double() if inner else torch.zeros(0).double()
    if scaling is not None and translation is not None:
        return _points([1.0], torch.cat([torch.linspace(-2, 2, 9).double(), natural]) if kind == "product" else torch.zeros(1).double())
    if translation is not None:
        rates = torch.arange(-3, 10).double().div(2).exp2()
        return _points(torch.cat([-rates, rates]), torch.zeros(1).double())
    if scaling is not None and function.symmetries.reflection is None:
        side = math.copysign(1.0, where)
        points = _points([1.0, -1.0], beyond)
        return torch.cat([points, torch.tensor([[side, abs(where)]]).double()]) if inner and abs(where) >= 1 else points
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
    natural_points[:, 1] = natural_points[:, 0] * (where if inner else 0.0)
    return torch.cat([torch.stack([a, -a * place], -1).flatten(0, 1), natural_points])


def _points(a: Sequence[float] | Tensor, b: Tensor) -> Tensor:
    return torch.stack(torch.meshgrid(torch.as_tensor(a).double(), b, indexing="ij"), -1).flatten(0, 1)


def _atoms(functions: Sequence[SymbolicFunction], lattices: Sequence[Tensor], t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values (M, n) that are finite and vary, with the function (M,) and the point (M, 2) of each."""
    values, which, points = [], [], []
    for k, (function, lattice) in enumerate(zip(functions, lattices, strict=True)):
        value = value_of(function, lattice[:, :1] * t + lattice[:, 1:])
        centred = value - value.mean(-1, keepdim=True)
        good = value.isfinite().all(-1) & (centred.norm(dim=-1) > 1e-6 * value.norm(dim=-1))
        values.append(value[good])
        points.append(lattice[good])
        which.append(torch.full((int(good.sum()),), k))
    return torch.cat(values), torch.cat(which), torch.cat(points)


def _scanned_nests(kind: str, functions: list[SymbolicFunction], inner: int, t: Tensor, y: Tensor, where: float) -> tuple[Pairs, Tensor]:
    values, which, points = _atoms(functions[:inner], [_lattice(f, where, True, kind) for f in functions[:inner]], t)
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
            atoms = of_pair[best[of_pair].topk(min(PER_PAIR, len(of_pair))).indices]
            a, b = lattice[place[atoms]].unbind(-1)
            slope = a / width[atoms]
            starts.append(torch.cat([points[atoms], torch.stack([slope, b - slope * middle[atoms]], -1)], -1))
            first += [i] * len(atoms)
            second += [k] * len(atoms)
    q = torch.cat(starts) if starts else t.new_zeros(0, 4)
    return Pairs(kind, functions, torch.tensor(first), torch.tensor(second)), q


def _scanned_pairs(kind: str, functions: list[SymbolicFunction], count: int, t: Tensor, y: Tensor, where: float) -> tuple[Pairs, Tensor]:
    functions = functions[:count]
    values, which, points = _atoms(functions, [_lattice(f, where, True, kind) for f in functions], t)
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
            found = block.topk(min(PER_PAIR, len(block))).indices
            starts.append(torch.cat([points[rows[found // len(columns)]], points[columns[found % len(columns)]]], -1))
            first += [i] * len(found)
            second += [j] * len(found)
    q = torch.cat(starts) if starts else t.new_zeros(0, 4)
    return Pairs(kind, functions, torch.tensor(first), torch.tensor(second)), q


def _scanned_waves(kind: str, functions: list[SymbolicFunction], count: int, t: Tensor, y: Tensor, where: float) -> tuple[Pairs, Tensor]:
    """A function and a damped wave, which is the second function."""
    values, which, points = _atoms(functions[:count], [_lattice(f, where, True, kind) for f in functions[:count]], t)
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
        chosen = of_function[best[of_function].topk(min(WAVES, len(of_function))).indices]
        starts.append(torch.cat([points[chosen], waves[place[chosen]]], -1))
        first += [i] * len(chosen)
    q = torch.cat(starts) if starts else t.new_zeros(0, 4)
    return Pairs(kind, functions, torch.tensor(first), torch.full((len(q),), count)), q
