"""Shorter formulas: without terms that do not matter, and with straight lines in the place of functions that hardly bend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sympy
from torch import Tensor

from kan.discovery.formulas.constants import Fitted, complexity, fit_constants, is_finite
from kan.symbolic.evaluation import evaluate_expression

__all__ = ["drop_terms"]

BENT = 0.05
"""Deviation from a straight line, as a share of its own, below which a function may be one."""

_Start = tuple[sympy.Expr, dict[sympy.Symbol, float]]


def drop_terms(
    fit: Fitted,
    variables: Sequence[sympy.Symbol],
    x: Tensor,
    y: Tensor,
    stop: Callable[[], bool] | None = None,
    weights: Tensor | None = None,
) -> Fitted:
    """Leave out terms of sums and factors of products with constants in them for as long as the description becomes shorter.

    Functions that are straight lines over the data become their arguments, likewise.

    Args:
        fit: of `fit_constants` to the same data.
        variables, x, y, weights: as there.
        stop: asked before every trial; what was found so far is returned when it says so.

    >>> import torch
    >>> x = sympy.Symbol("x")
    >>> points = torch.linspace(0, 3, 50, dtype=torch.float64)[:, None]
    >>> fit = fit_constants(0.9 * sympy.sin(x) + 1e-9 * sympy.exp(0.1 * x), [x], points, torch.sin(points))
    >>> round(float(drop_terms(fit, [x], points, torch.sin(points)).formula.subs(x, 1.0)), 9)
    0.841470985
    """
    columns = dict(zip(variables, x.double().unbind(1), strict=True))
    while True:
        for shorter, start in (*_straighter(fit, columns, y.double().flatten()), *_shorter(fit)):
            if stop is not None and stop():
                return fit
            new = fit_constants(shorter, variables, x, y, start=start, exact_bits=fit.exact_bits, evaluations=25, weights=weights)
            if new.bits + 2 * complexity(shorter) < fit.bits + 2 * complexity(fit.template):
                fit = new
                break
        else:
            return fit


def _shorter(fit: Fitted) -> list[_Start]:
    """The template without one of its terms or factors, the largest first, and the constants that are left."""
    found: dict[sympy.Expr, int] = {}
    for node in sympy.preorder_traversal(fit.template):
        if isinstance(node, sympy.Add | sympy.Mul):
            for part in node.args:
                if part.free_symbols & set(fit.constants):
                    shorter = fit.template.xreplace({node: node.func(*(other for other in node.args if other is not part))})
                    if is_finite(shorter):
                        found.setdefault(shorter, complexity(part))
    ranked = sorted(found, key=lambda shorter: -found[shorter])
    return [(shorter, {symbol: value for symbol, value in fit.constants.items() if shorter.has(symbol)}) for shorter in ranked]


def _straighter(fit: Fitted, columns: Mapping[sympy.Symbol, Tensor], y: Tensor) -> list[_Start]:
    """With ``u`` in the place of a function ``f(u)`` that hardly bends over the data, such as ``sin(0.001 x)``."""
    found: list[_Start] = []
    for node in sympy.preorder_traversal(fit.template):
        function = isinstance(node, sympy.Function) or (isinstance(node, sympy.Pow) and not node.exp.has(*columns))
        if not function or not node.args[0].has(*columns):
            continue
        terms = sympy.Add.make_args(node.args[0])
        carried = [sorted(term.free_symbols & set(fit.constants), key=str) for term in terms]
        # A constant in front of every term takes up the slope, one alone what is added.
        if not all(
            len(symbols) == 1 and (term / symbols[0]).has(symbols[0]) is False for term, symbols in zip(terms, carried, strict=True)
        ):
            continue
        u, f = (
            evaluate_expression(part.xreplace({s: sympy.Float(v, 17) for s, v in fit.constants.items()}), columns, y)
            for part in (node.args[0], node)
        )
        centred = u - u.mean()
        slope = float(centred @ f / centred.square().sum().clamp_min(1e-300))
        bend = float((f - f.mean() - slope * centred).norm() / (f - f.mean()).norm().clamp_min(1e-300))
        if not bend < BENT:
            continue
        straight = fit.template.xreplace({node: node.args[0]})
        start = {symbol: value for symbol, value in fit.constants.items() if straight.has(symbol)}  # an exponent goes
        for term, (symbol,) in zip(terms, carried, strict=True):
            start[symbol] = start[symbol] * slope + (float(f.mean() - slope * u.mean()) if term == symbol else 0.0)
        found.append(_met(straight, start))
    return found


def _met(template: sympy.Expr, start: dict[sympy.Symbol, float]) -> _Start:
    """With one constant in the place of several in a sum, each of which occurs only there."""
    for node in list(template.atoms(sympy.Add)):
        alone = [term for term in node.args if term in start]
        if len(alone) > 1:
            template = template.xreplace({node: node.func(*(term for term in node.args if term not in alone[1:]))})
            start = {**start, alone[0]: sum(start[symbol] for symbol in alone)}
    return template, {symbol: value for symbol, value in start.items() if template.has(symbol)}
