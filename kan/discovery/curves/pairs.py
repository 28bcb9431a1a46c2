r"""Two functions that meet in one curve.

They are :math:`c_1 f + c_2 g + d`, :math:`c f g + d`, or :math:`c\,g(a f + b) + d`, with f and g of :math:`\alpha z + \beta` each, or
:math:`c_1 f + e^{\kappa z} (c_2 \sin \omega z + c_3 \cos \omega z) + d`.

1. Every pair of functions is scored on lattices of the constants inside, the constants outside projected out.
2. The best points of every pair are polished together by Levenberg-Marquardt on the projected residual (Kaufman's Jacobian), on few
   samples, and the best of these on more.

Symbols: S starts, n samples, K columns, ``q = (alpha_1, beta_1, alpha_2, beta_2)``, for compositions
``(alpha, beta, a, b)``, for waves ``(alpha, beta, kappa, omega)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import sympy
import torch
from torch import Tensor

from kan.discovery.curves.pair_starts import Pairs, scan
from kan.solvers.batched_levenberg_marquardt import Quadratic, minimise_each
from kan.symbolic.affine_fit import canonicalise
from kan.symbolic.families import EXTENDED_LIB, Family, damped
from kan.symbolic.library import SYMBOLIC_LIB, SymbolicFunction
from kan.symbolic.slopes import value_and_slope

__all__ = ["KINDS", "pair_formulas"]

KINDS = ("nest", "sum", "product", "wave")
COARSE = 64
"""Samples of scans and first polishes."""
FINE = 256
POLISHED = 48
"""Starts that are polished on more samples."""
RETURNED = 8
MOST = 16
"""Functions of a library that take part, the simplest."""

_INNER = "x^2 x^3 exp log sqrt 1/x sin tan tanh arctan gaussian 1/(1+x^2)".split()
_OUTER = "x^2 x^3 exp log sqrt 1/x 1/x^2 1/sqrt(x) sin tan tanh arctan arcsin gaussian".split()
_TERMS = "x x^2 x^3 1/x 1/x^2 sqrt 1/sqrt(x) exp log sin tan tanh arctan gaussian 1/(1+x^2)".split()


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
    functions = [*firsts, *([damped([0.0])] if kind == "wave" else seconds)]
    low, high = float(z.min()), float(z.max())
    centre, half = (high + low) / 2, (high - low) / 2
    order = z.argsort()
    t, v = ((z - centre) / half).clamp(-1, 1)[order], y[order]
    coarse, fine = (torch.linspace(0, len(z) - 1, min(len(z), n)).round().long() for n in (COARSE, FINE))
    where = centre / half
    with torch.no_grad():
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


# Polish


def _columns(pairs: Pairs, t: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (S, K, n) and their derivatives (S, K, 4, n)."""
    f, df = _each(pairs.functions, pairs.first, q[:, :1] * t + q[:, 1:2])
    if pairs.kind == "nest":
        g, dg = _each(pairs.functions, pairs.second, q[:, 2:3] * f + q[:, 3:])
        inner = dg * q[:, 2:3] * df
        return g[:, None], torch.stack([inner * t, inner, dg * f, dg], 1)[:, None]
    none = torch.zeros_like(f)
    if pairs.kind == "wave":
        size = (q[:, 2:3] * t).exp()
        sine, cosine = size * (q[:, 3:] * t).sin(), size * (q[:, 3:] * t).cos()
        slopes = [[df * t, df, none, none], [none, none, sine * t, cosine * t], [none, none, cosine * t, -sine * t]]
        return torch.stack([f, sine, cosine], 1), torch.stack([torch.stack(rows, 1) for rows in slopes], 1)
    g, dg = _each(pairs.functions, pairs.second, q[:, 2:3] * t + q[:, 3:])
    if pairs.kind == "product":
        return (f * g)[:, None], torch.stack([df * g * t, df * g, f * dg * t, f * dg], 1)[:, None]
    return torch.stack([f, g], 1), torch.stack([torch.stack([df * t, df, none, none], 1), torch.stack([none, none, dg * t, dg], 1)], 1)


def _each(functions: Sequence[SymbolicFunction], which: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    value, slope = torch.empty_like(u), torch.empty_like(u)
    for k in which.unique().tolist():
        rows = (which == k).nonzero()[:, 0]
        value[rows], slope[rows] = value_and_slope(functions[k], u[rows])
    return value, slope


def _linearise(pairs: Pairs, t: Tensor, y: Tensor, q: Tensor) -> tuple[Quadratic, Tensor]:
    """The model of the loss around q, (S, 4), and the coefficients (S, K) there."""
    columns, slopes = _columns(pairs, t, q)
    mean = columns.mean(-1, keepdim=True)
    columns = columns - mean
    size = columns.norm(dim=-1, keepdim=True)
    good = (columns.isfinite().all(-1) & (size[..., 0] > 1e-6 * math.sqrt(len(t)) * mean[..., 0].abs())).all(-1)
    columns = torch.where(good[:, None, None], columns, t) / torch.where(good[:, None, None], size, 1.0)
    basis: list[Tensor] = []
    upper = torch.zeros(len(q), columns.shape[1], columns.shape[1], dtype=columns.dtype)
    for k in range(columns.shape[1]):
        column = columns[:, k]
        for _ in range(2):  # twice is enough
            for m, unit in enumerate(basis):
                share = (column * unit).sum(-1)
                upper[:, m, k] += share
                column = column - share[:, None] * unit
        left = column.norm(dim=-1)
        good &= left > 1e-6
        upper[:, k, k] = left.clamp_min(1e-12)
        basis.append(column / left.clamp_min(1e-12)[:, None])
    span = torch.stack(basis, 1)
    along = span @ y
    residual = y - (along[:, :, None] * span).sum(1)
    residual = residual - ((span @ residual[:, :, None]) * span).sum(1)
    coefficients = torch.linalg.solve_triangular(upper, along[:, :, None], upper=True)[..., 0]
    coefficients = coefficients / size[..., 0].clamp_min(1e-300)
    loss = residual.square().sum(-1)
    loss = torch.where(good & loss.isfinite(), loss, torch.inf)
    sides = (slopes.nan_to_num(0.0, 0.0, 0.0) * coefficients[:, :, None, None]).sum(1)
    sides = sides - sides.mean(-1, keepdim=True)
    sides = (sides - (sides @ span.mT) @ span).nan_to_num(0.0, 0.0, 0.0)
    gradient = (sides @ residual.nan_to_num(0.0)[:, :, None])[..., 0]
    return Quadratic(loss, gradient, sides @ sides.mT), coefficients


def _polish(pairs: Pairs, t: Tensor, y: Tensor, q: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    return minimise_each(lambda rows, some: _linearise(pairs.take(rows), t, y, some)[0], q, iterations, 1e-6)


def _best_of_pairs(pairs: Pairs, bits: Tensor, count: int) -> Tensor:
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


def _expressions(pairs: Pairs, q: Tensor, t: Tensor, y: Tensor, symbol: sympy.Symbol, centre: float, half: float) -> list[sympy.Expr]:
    standard = _standard(y)
    spread = float((y - y.mean()).norm())
    _, coefficients = _linearise(pairs, t, standard, q)
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
        if pairs.kind == "wave":
            one = _canonical(f, slope, beta - slope * centre)
            u = _shaped(f, _number(one[0]) * symbol + _number(one[1]))
            found.append(_number(c[0] * one[2]) * u + _wave(c[1:], a / half, b / half, centre, symbol) + _number(d + c[0] * one[3]))
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


def _wave(c: list[float], rate: float, frequency: float, centre: float, symbol: sympy.Symbol) -> sympy.Expr:
    """``e^(k (z - z_0)) (c_0 sin w (z - z_0) + c_1 cos w (z - z_0))``."""
    phase = math.remainder(math.atan2(c[1], c[0]) - frequency * centre, 2 * math.pi)
    wave = sympy.sin(_number(frequency) * symbol + _number(phase))
    return _number(math.hypot(*c) * math.exp(max(-700.0, min(700.0, -rate * centre)))) * sympy.exp(_number(rate) * symbol) * wave


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
