r"""Curves that are a combination of two functions.

The combinations are :math:`c_1 f + c_2 g + d`, :math:`c f g + d` and :math:`c\,g(a f + b) + d`, where the arguments of f and g are
:math:`\alpha z + \beta` with constants of their own, and :math:`c_1 f + e^{\kappa z} (c_2 \sin \omega z + c_3 \cos \omega z) + d`.

1. Every pair of functions is scored on lattices of the inner constants, with the outer constants fitted by least squares; see
   `kan.discovery.curves.pair_starts`.
2. The best points of every pair are refined together by Levenberg-Marquardt steps on the projected residual, with Kaufman's approximation
   of its Jacobian. This is done on few samples for all of them, and on more samples for the best.

Symbols: S starts, n samples, K outer coefficients. The inner constants q of a start are ``(alpha_1, beta_1, alpha_2, beta_2)``, for
compositions ``(alpha, beta, a, b)``, and for waves ``(alpha, beta, kappa, omega)``. The inputs z are mapped to t in [-1, 1].
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

__all__ = ["COMBINATIONS", "pair_formulas"]

COMBINATIONS = ("composition", "sum", "product", "wave")
"""Ways of combining two functions, in the order in which they are tried."""
COARSE_SAMPLES = 64
"""Largest number of samples on which starts are scored and all of them are refined."""
FINE_SAMPLES = 256
"""Largest number of samples on which the best starts are refined."""
MAX_FINE_STARTS = 48
"""Number of the best starts that are refined on `FINE_SAMPLES`."""
MAX_PAIR_FORMULAS = 8
"""Largest number of formulas that are returned for one combination."""
MAX_RESIDUAL_VARIANCE = 0.9
"""Share of the labels' variance that a formula must not leave unexplained."""
MAX_LIBRARY_FUNCTIONS = 16
"""Largest number of functions of a given library that are combined; the simplest ones are taken."""

_INNER_FUNCTIONS = "x^2 x^3 exp log sqrt 1/x sin tan tanh arctan gaussian 1/(1+x^2)".split()
_OUTER_FUNCTIONS = "x^2 x^3 exp log sqrt 1/x 1/x^2 1/sqrt(x) sin tan tanh arctan arcsin gaussian".split()
_SUMMANDS = "x x^2 x^3 1/x 1/x^2 sqrt 1/sqrt(x) exp log sin tan tanh arctan gaussian 1/(1+x^2)".split()


def pair_formulas(
    z: Tensor, y: Tensor, symbol: sympy.Symbol, kind: str, library: Mapping[str, SymbolicFunction | Family] | None = None
) -> list[sympy.Expr]:
    """Formulas that combine two functions in one of the ways of `COMBINATIONS`, the one with the shortest description first.

    Args:
        z, y: samples, ``(N,)`` each.
        symbol: the symbol of `z` in the formulas.
        kind: how the functions are combined.
        library: the functions to combine; a fixed selection of the built-in ones when not given.
    """
    given = None if library is None else _simplest(library)
    table = {**SYMBOLIC_LIB, **EXTENDED_LIB}
    firsts, seconds = (
        given or [entry for name in names if isinstance(entry := table[name], SymbolicFunction)]
        for names in ((_INNER_FUNCTIONS, _OUTER_FUNCTIONS) if kind == "composition" else (_SUMMANDS, _SUMMANDS))
    )
    functions = [*firsts, *([damped([0.0])] if kind == "wave" else seconds)]
    low, high = float(z.min()), float(z.max())
    centre, half = (high + low) / 2, (high - low) / 2
    order = z.argsort()
    t, v = ((z - centre) / half).clamp(-1, 1)[order], y[order]
    coarse, fine = (torch.linspace(0, len(z) - 1, min(len(z), n)).round().long() for n in (COARSE_SAMPLES, FINE_SAMPLES))
    offset = centre / half
    with torch.no_grad():
        pairs, q = scan(kind, functions, len(firsts), t[coarse], _standard(v[coarse]), offset)
        if not len(q):
            return []
        q, loss = _polish(pairs, t[coarse], _standard(v[coarse]), q, 30)
        price = q.new_tensor([function.complexity for function in functions])
        bits = len(fine) / 2 * loss.clamp_min(1e-20).log2() + 2 * (price[pairs.first] + price[pairs.second])
        best = _best_starts(pairs, bits, MAX_FINE_STARTS)
        pairs, q = pairs.take(best), q[best]
        q, loss = _polish(pairs, t[fine], _standard(v[fine]), q, 60)
        bits = len(fine) / 2 * loss.clamp_min(1e-24).log2() + 2 * (price[pairs.first] + price[pairs.second])
        best = bits.argsort(stable=True)[:MAX_PAIR_FORMULAS]
        best = best[loss[best] < MAX_RESIDUAL_VARIANCE]
        return _expressions(pairs.take(best), q[best], t, v, symbol, centre, half)


def _simplest(library: Mapping[str, SymbolicFunction | Family]) -> list[SymbolicFunction]:
    """The simplest functions of a library, without families, the zero function and functions that equal another one."""
    rows = [
        entry for entry in library.values() if isinstance(entry, SymbolicFunction) and entry.name not in ("0", "x^0.5", "1/x^0.5", "cos")
    ]
    return sorted(rows, key=lambda row: row.complexity)[:MAX_LIBRARY_FUNCTIONS]


def _standard(y: Tensor) -> Tensor:
    """The values shifted to mean 0 and scaled to norm 1."""
    centred: Tensor = y - y.mean()
    unit: Tensor = centred / centred.norm().clamp_min(1e-300)
    return unit


# Refinement of the inner constants


def _columns(pairs: Pairs, t: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """The curves ``(S, K, n)`` that the outer coefficients multiply, and their derivatives by q, ``(S, K, 4, n)``."""
    f, df = _each(pairs.functions, pairs.first, q[:, :1] * t + q[:, 1:2])
    if pairs.kind == "composition":
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
    """Values and slopes ``(S, n)`` of the function ``functions[which[s]]`` at the arguments ``u[s]`` of each start."""
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


def _best_starts(pairs: Pairs, bits: Tensor, count: int) -> Tensor:
    """Indices of the `count` best starts, with at most two of each pair of functions."""
    order = bits.argsort(stable=True)
    seen: dict[tuple[int, int], int] = {}
    chosen = []
    for s in order.tolist():
        key = int(pairs.first[s]), int(pairs.second[s])
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= 2 and math.isfinite(float(bits[s])):
            chosen.append(s)
    return torch.tensor(chosen[:count], dtype=torch.long)


# Expressions


def _expressions(pairs: Pairs, q: Tensor, t: Tensor, y: Tensor, symbol: sympy.Symbol, centre: float, half: float) -> list[sympy.Expr]:
    """The formulas of all starts in the units of the samples, where ``z = centre + half t``."""
    spread = float((y - y.mean()).norm())
    _, coefficients = _linearise(pairs, t, _standard(y), q)
    columns = _columns(pairs, t, q)[0]
    shifts = y.mean() - spread * (coefficients[:, :, None] * columns).sum(1).mean(-1)
    found = []
    for s in range(len(q)):
        f, g = pairs.functions[int(pairs.first[s])], pairs.functions[int(pairs.second[s])]
        alpha, beta, a, b = q[s].tolist()
        c, d = [spread * v for v in coefficients[s].tolist()], float(shifts[s])
        one = _canonical(f, alpha / half, beta - alpha / half * centre)
        u = _function_of(f, one, symbol)
        if pairs.kind == "composition":
            two = _canonical(g, a * one[2], b + a * one[3], c[0], d)
            found.append(_number(two[2]) * _function_of(g, two, u) + _number(two[3]))
            continue
        if pairs.kind == "wave":
            found.append(_number(c[0] * one[2]) * u + _wave(c[1:], a / half, b / half, centre, symbol) + _number(d + c[0] * one[3]))
            continue
        two = _canonical(g, a / half, b - a / half * centre)
        v = _function_of(g, two, symbol)
        if pairs.kind == "sum":
            shift = d + c[0] * one[3] + c[1] * two[3]
            found.append(_number(c[0] * one[2]) * u + _number(c[1] * two[2]) * v + _number(shift))
        elif one[3] == 0 == two[3]:
            found.append(_number(c[0] * one[2] * two[2]) * u * v + _number(d))
        else:
            found.append(_number(c[0]) * (_number(one[2]) * u + _number(one[3])) * (_number(two[2]) * v + _number(two[3])) + _number(d))
    return found


def _wave(c: list[float], rate: float, frequency: float, centre: float, symbol: sympy.Symbol) -> sympy.Expr:
    """``e^(k (z - z_0)) (c_0 sin w (z - z_0) + c_1 cos w (z - z_0))`` as one sine with a phase, for the centre ``z_0``."""
    phase = math.remainder(math.atan2(c[1], c[0]) - frequency * centre, 2 * math.pi)
    wave = sympy.sin(_number(frequency) * symbol + _number(phase))
    return _number(math.hypot(*c) * math.exp(max(-700.0, min(700.0, -rate * centre)))) * sympy.exp(_number(rate) * symbol) * wave


def _function_of(function: SymbolicFunction, affine: list[float], argument: sympy.Expr) -> sympy.Expr:
    """``f(a u + b)`` for the affine constants ``(a, b, c, d)`` of a function and its argument ``u``."""
    expression: sympy.Expr = function.sympy_fun(_number(affine[0]) * argument + _number(affine[1]))
    return expression


def _canonical(function: SymbolicFunction, a: float, b: float, c: float = 1.0, d: float = 0.0) -> list[float]:
    """Constants ``(a, b, c, d)`` of ``c f(a z + b) + d`` in a standard form, which the symmetries of the function define."""
    values: list[float] = canonicalise(torch.tensor([a, b, c, d], dtype=torch.float64), function.symmetries).tolist()
    return values


def _number(value: float) -> sympy.Expr:
    """A number with all its digits; 0, 1 and -1 are exact."""
    return sympy.Integer(int(value)) if value in (0.0, 1.0, -1.0) else sympy.Float(value, 17)
