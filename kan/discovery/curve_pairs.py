r"""Two functions that meet in one curve.

They are :math:`c_1 f + c_2 g + d`, :math:`c f g + d`, or :math:`c\,g(a f + b) + d`, with f and g of :math:`\alpha z + \beta` each.

1. Every pair of functions is scored on lattices of the constants inside, the constants outside projected out.
2. The best points of every pair are polished together by Levenberg-Marquardt on the projected residual (Kaufman's Jacobian), on few
   samples, and the best of these on more.

Symbols: S starts, n samples, K columns, ``q = (alpha_1, beta_1, alpha_2, beta_2)``, for compositions ``(alpha, beta, a, b)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sympy
import torch
from torch import Tensor

from kan.symbolic.affine_fit import canonicalise
from kan.symbolic.families import EXTENDED_LIB, Family
from kan.symbolic.lattice import DOMAINS
from kan.symbolic.library import SYMBOLIC_LIB, SymbolicFunction
from kan.symbolic.slopes import value_and_slope, value_of

__all__ = ["KINDS", "pair_formulas"]

KINDS = ("nest", "sum", "product")
COARSE = 64
"""Samples of scans and first polishes."""
FINE = 256
PER_PAIR = 4
"""Starts of a pair of functions."""
POLISHED = 48
"""Starts that are polished on more samples."""
RETURNED = 8
MOST = 16
"""Functions of a library that take part, the simplest."""

_INNER = "x^2 x^3 exp log sqrt 1/x sin tan tanh arctan gaussian 1/(1+x^2)".split()
_OUTER = "x^2 x^3 exp log sqrt 1/x 1/x^2 1/sqrt(x) sin tan tanh arctan arcsin gaussian".split()
_TERMS = "x x^2 x^3 1/x 1/x^2 sqrt 1/sqrt(x) exp log sin tan tanh arctan gaussian 1/(1+x^2)".split()


class _Pairs(NamedTuple):
    """S starts with the functions of each."""

    kind: str
    functions: list[SymbolicFunction]
    first: Tensor  # (S,)
    second: Tensor  # (S,)

    def take(self, index: Tensor) -> _Pairs:
        return self._replace(first=self.first[index], second=self.second[index])


def pair_formulas(
    z: Tensor, y: Tensor, symbol: sympy.Symbol, kind: str, library: Mapping[str, SymbolicFunction | Family] | None = None
) -> list[sympy.Expr]:
    """Formulas of one of `KINDS` for samples ``(N,)``, the best first.

    Args:
        z, y: samples.
        symbol: of the formulas.
        kind: how the two functions meet.
        library: of the functions; None for a choice of the table's.
    """
    given = None if library is None else _simplest(library)
    table = {**SYMBOLIC_LIB, **EXTENDED_LIB}
    firsts, seconds = (
        given or [entry for name in names if isinstance(entry := table[name], SymbolicFunction)]
        for names in ((_INNER, _OUTER) if kind == "nest" else (_TERMS, _TERMS))
    )
    functions = [*firsts, *seconds]
    low, high = float(z.min()), float(z.max())
    centre, half = (high + low) / 2, (high - low) / 2
    order = z.argsort()
    t, v = ((z - centre) / half).clamp(-1, 1)[order], y[order]
    coarse, fine = (torch.linspace(0, len(z) - 1, min(len(z), n)).round().long() for n in (COARSE, FINE))
    where = centre / half
    with torch.no_grad():
        scan = _scanned_nests if kind == "nest" else _scanned_pairs
        pairs, q = scan(kind, functions, len(firsts), t[coarse], _standard(v[coarse]), where)
        if not len(q):
            return []
        q, loss = _polish(pairs, t[coarse], _standard(v[coarse]), q, 30)
        price = q.new_tensor([function.complexity for function in functions])
        bits = len(fine) / 2 * loss.clamp_min(1e-20).log2() + 2 * (price[pairs.first] + price[pairs.second])
        best = _best_of_pairs(pairs, bits, POLISHED)
        pairs, q = pairs.take(best), q[best]
        q, loss = _polish(pairs, t[fine], _standard(v[fine]), q, 60)
        bits = len(fine) / 2 * loss.clamp_min(1e-24).log2() + 2 * (price[pairs.first] + price[pairs.second])
        best = bits.argsort(stable=True)[:RETURNED]
        best = best[loss[best] < 0.9]
        return _expressions(pairs.take(best), q[best], t, v, symbol, centre, half)


def _simplest(library: Mapping[str, SymbolicFunction | Family]) -> list[SymbolicFunction]:
    rows = [
        entry for entry in library.values() if isinstance(entry, SymbolicFunction) and entry.name not in ("0", "x^0.5", "1/x^0.5", "cos")
    ]
    return sorted(rows, key=lambda row: row.complexity)[:MOST]


def _standard(y: Tensor) -> Tensor:
    centred: Tensor = y - y.mean()
    unit: Tensor = centred / centred.norm().clamp_min(1e-300)
    return unit


# Lattices and scans


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


def _scanned_nests(kind: str, functions: list[SymbolicFunction], inner: int, t: Tensor, y: Tensor, where: float) -> tuple[_Pairs, Tensor]:
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
    return _Pairs(kind, functions, torch.tensor(first), torch.tensor(second)), q


def _scanned_pairs(kind: str, functions: list[SymbolicFunction], count: int, t: Tensor, y: Tensor, where: float) -> tuple[_Pairs, Tensor]:
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
    return _Pairs(kind, functions, torch.tensor(first), torch.tensor(second)), q


# Polish


def _columns(pairs: _Pairs, t: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (S, K, n) and their derivatives (S, K, 4, n)."""
    f, df = _each(pairs.functions, pairs.first, q[:, :1] * t + q[:, 1:2])
    if pairs.kind == "nest":
        g, dg = _each(pairs.functions, pairs.second, q[:, 2:3] * f + q[:, 3:])
        inner = dg * q[:, 2:3] * df
        return g[:, None], torch.stack([inner * t, inner, dg * f, dg], 1)[:, None]
    g, dg = _each(pairs.functions, pairs.second, q[:, 2:3] * t + q[:, 3:])
    if pairs.kind == "product":
        return (f * g)[:, None], torch.stack([df * g * t, df * g, f * dg * t, f * dg], 1)[:, None]
    none = torch.zeros_like(f)
    return torch.stack([f, g], 1), torch.stack([torch.stack([df * t, df, none, none], 1), torch.stack([none, none, dg * t, dg], 1)], 1)


def _each(functions: Sequence[SymbolicFunction], which: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    value, slope = torch.empty_like(u), torch.empty_like(u)
    for k in which.unique().tolist():
        rows = (which == k).nonzero()[:, 0]
        value[rows], slope[rows] = value_and_slope(functions[k], u[rows])
    return value, slope


def _linearise(pairs: _Pairs, t: Tensor, y: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss (S,), its gradient (S, 4), Gauss-Newton Hessian (S, 4, 4), and the coefficients (S, K)."""
    columns, slopes = _columns(pairs, t, q)
    mean = columns.mean(-1, keepdim=True)
    columns = columns - mean
    size = columns.norm(dim=-1, keepdim=True)
    good = (columns.isfinite().all(-1) & (size[..., 0] > 1e-6 * math.sqrt(len(t)) * mean[..., 0].abs())).all(-1)
    columns = torch.where(good[:, None, None], columns, t) / torch.where(good[:, None, None], size, 1.0)
    basis = [columns[:, 0]]
    overlap = torch.zeros_like(size[:, 0])
    if columns.shape[1] == 2:
        overlap = (columns[:, 1] * basis[0]).sum(-1, keepdim=True)
        second = columns[:, 1] - overlap * basis[0]
        again = (second * basis[0]).sum(-1, keepdim=True)
        second, overlap = second - again * basis[0], overlap + again
        left = second.norm(dim=-1, keepdim=True)
        good &= left[:, 0] > 1e-6
        basis.append(second / left.clamp_min(1e-12))
    span = torch.stack(basis, 1)
    along = span @ y
    residual = y - (along[:, :, None] * span).sum(1)
    residual = residual - ((span @ residual[:, :, None]) * span).sum(1)
    if columns.shape[1] == 2:
        c1 = along[:, 1:] / left.clamp_min(1e-12)
        coefficients = torch.cat([along[:, :1] - overlap * c1, c1], 1)
    else:
        coefficients = along
    coefficients = coefficients / size[..., 0].clamp_min(1e-300)
    loss = residual.square().sum(-1)
    loss = torch.where(good & loss.isfinite(), loss, torch.inf)
    sides = (slopes.nan_to_num(0.0, 0.0, 0.0) * coefficients[:, :, None, None]).sum(1)
    sides = sides - sides.mean(-1, keepdim=True)
    sides = (sides - (sides @ span.mT) @ span).nan_to_num(0.0, 0.0, 0.0)
    gradient = (sides @ residual.nan_to_num(0.0)[:, :, None])[..., 0]
    return loss, gradient, sides @ sides.mT, coefficients


def _polish(pairs: _Pairs, t: Tensor, y: Tensor, q: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    q = q.clone()
    loss, gradient, hessian, _ = _linearise(pairs, t, y, q)
    damping = torch.full_like(loss, 1e-3)
    done = ~loss.isfinite()
    for _ in range(iterations):
        live = (~done).nonzero()[:, 0]
        if not len(live):
            break
        diagonal = hessian[live].diagonal(dim1=-2, dim2=-1)
        ridge = damping[live, None] * diagonal + 1e-14 * diagonal.amax(-1, keepdim=True) + 1e-300
        step = torch.linalg.solve_ex(hessian[live] + torch.diag_embed(ridge), gradient[live])[0].nan_to_num(0.0, 0.0, 0.0)
        trial = q[live] + step
        new, slope, bend, _ = _linearise(pairs.take(live), t, y, trial)
        before = loss[live]
        better = new < before
        rows = live[better]
        q[rows], loss[rows], gradient[rows], hessian[rows] = trial[better], new[better], slope[better], bend[better]
        damping[live] = torch.where(better, damping[live] * 0.1, damping[live] * 8).clamp_min(1e-15)
        done[live] |= (better & ((before - new <= 1e-6 * before) | (new < 1e-28))) | (damping[live] > 1e6)
    return q, loss


def _best_of_pairs(pairs: _Pairs, bits: Tensor, count: int) -> Tensor:
    """The best start of every pair of functions, and the best of all."""
    order = bits.argsort(stable=True)
    seen: dict[tuple[int, int], int] = {}
    chosen = []
    for s in order.tolist():
        key = int(pairs.first[s]), int(pairs.second[s])
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= 2 and math.isfinite(float(bits[s])):
            chosen.append(s)
    return torch.tensor(chosen[:count], dtype=torch.long)


# Formulas


def _expressions(pairs: _Pairs, q: Tensor, t: Tensor, y: Tensor, symbol: sympy.Symbol, centre: float, half: float) -> list[sympy.Expr]:
    standard = _standard(y)
    spread = float((y - y.mean()).norm())
    *_, coefficients = _linearise(pairs, t, standard, q)
    columns = _columns(pairs, t, q)[0]
    shifts = y.mean() - spread * (coefficients[:, :, None] * columns).sum(1).mean(-1)
    found = []
    for s in range(len(q)):
        f, g = pairs.functions[int(pairs.first[s])], pairs.functions[int(pairs.second[s])]
        alpha, beta, a, b = q[s].tolist()
        c, d = [spread * v for v in coefficients[s].tolist()], float(shifts[s])
        slope = alpha / half
        if pairs.kind == "nest":
            one = _canonical(f, slope, beta - slope * centre)
            two = _canonical(g, a * one[2], b + a * one[3], c[0], d)
            found.append(_affine(two, g, _inner(two, f, one, symbol)))
            continue
        rate = a / half
        one = _canonical(f, slope, beta - slope * centre)
        two = _canonical(g, rate, b - rate * centre)
        u, v = (_shaped(h, _number(k[0]) * symbol + _number(k[1])) for h, k in ((f, one), (g, two)))
        if pairs.kind == "sum":
            shift = d + c[0] * one[3] + c[1] * two[3]
            found.append(_number(c[0] * one[2]) * u + _number(c[1] * two[2]) * v + _number(shift))
        elif one[3] == 0 == two[3]:
            found.append(_number(c[0] * one[2] * two[2]) * u * v + _number(d))
        else:
            found.append(_number(c[0]) * (_number(one[2]) * u + _number(one[3])) * (_number(two[2]) * v + _number(two[3])) + _number(d))
    return found


def _inner(two: list[float], f: SymbolicFunction, one: list[float], symbol: sympy.Symbol) -> sympy.Expr:
    return _number(two[0]) * _shaped(f, _number(one[0]) * symbol + _number(one[1])) + _number(two[1])


def _affine(two: list[float], g: SymbolicFunction, inside: sympy.Expr) -> sympy.Expr:
    return _number(two[2]) * _shaped(g, inside) + _number(two[3])


def _shaped(function: SymbolicFunction, inside: sympy.Expr) -> sympy.Expr:
    expression: sympy.Expr = function.sympy_fun(inside)
    return expression


def _canonical(function: SymbolicFunction, a: float, b: float, c: float = 1.0, d: float = 0.0) -> list[float]:
    values: list[float] = canonicalise(torch.tensor([a, b, c, d], dtype=torch.float64), function.symmetries).tolist()
    return values


def _number(value: float) -> sympy.Expr:
    return sympy.Integer(int(value)) if value in (0.0, 1.0, -1.0) else sympy.Float(value, 17)
