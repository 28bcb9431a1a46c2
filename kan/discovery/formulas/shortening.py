"""Shorter formulas: without negligible terms and factors, and with nearly linear functions replaced by their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sympy
from torch import Tensor

from kan.discovery.formulas.constants import Fitted, complexity, fit_constants, is_finite
from kan.symbolic.evaluation import evaluate_expression

__all__ = ["drop_terms"]

MAX_NONLINEARITY = 0.05
"""Deviation of a function from its best straight line, as a share of its standard deviation over the data, below which a straight line is
tried in its place."""

_Start = tuple[sympy.Expr, dict[sympy.Symbol, float]]


def drop_terms(
    fit: Fitted,
    variables: Sequence[sympy.Symbol],
    x: Tensor,
    y: Tensor,
    stop: Callable[[], bool] | None = None,
    weights: Tensor | None = None,
) -> Fitted:
    """Remove terms and factors that contain constants as long as the description length decreases.

    Functions that are nearly linear over the data are replaced by their arguments under the same condition.

    Args:
        fit: the result of `fit_constants` for the same data.
        variables, x, y, weights: as for `fit_constants`.
        stop: asked before every trial; once it returns True, the present result is returned.

    >>> import torch
    >>> x = sympy.Symbol("x")
    >>> points = torch.linspace(0, 3, 50, dtype=torch.float64)[:, None]
    >>> fit = fit_constants(0.9 * sympy.sin(x) + 1e-9 * sympy.exp(0.1 * x), [x], points, torch.sin(points))
    >>> round(float(drop_terms(fit, [x], points, torch.sin(points)).formula.subs(x, 1.0)), 9)
    0.841470985
    """
    columns = dict(zip(variables, x.double().unbind(1), strict=True))
    while True:
        for shorter, start in (*_linearised(fit, columns, y.double().flatten()), *_shorter(fit)):
            if stop is not None and stop():
                return fit
            new = fit_constants(shorter, variables, x, y, start=start, exact_bits=fit.exact_bits, evaluations=25, weights=weights)
            if new.bits + 2 * complexity(shorter) < fit.bits + 2 * complexity(fit.template):
                fit = new
                break
        else:
            return fit


def _shorter(fit: Fitted) -> list[_Start]:
    """The templates without one of the terms or factors, the most complex of these first, each with the constants that are left."""
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


def _linearised(fit: Fitted, columns: Mapping[sympy.Symbol, Tensor], y: Tensor) -> list[_Start]:
    """The templates with a nearly linear function ``f(u)``, such as ``sin(0.001 x)``, replaced by ``u``, each with initial constants."""
    found: list[_Start] = []
    for node in sympy.preorder_traversal(fit.template):
        function = isinstance(node, sympy.Function) or (isinstance(node, sympy.Pow) and not node.exp.has(*columns))
        if not function or not node.args[0].has(*columns):
            continue
        terms = sympy.Add.make_args(node.args[0])
        carried = [sorted(term.free_symbols & set(fit.constants), key=str) for term in terms]
        # Every term of u must have a constant factor, which absorbs the slope. A term that is a constant absorbs the offset.
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
        nonlinearity = float((f - f.mean() - slope * centred).norm() / (f - f.mean()).norm().clamp_min(1e-300))
        if not nonlinearity < MAX_NONLINEARITY:
            continue
        straight = fit.template.xreplace({node: node.args[0]})
        start = {symbol: value for symbol, value in fit.constants.items() if straight.has(symbol)}  # without an exponent's
        for term, (symbol,) in zip(terms, carried, strict=True):
            start[symbol] = start[symbol] * slope + (float(f.mean() - slope * u.mean()) if term == symbol else 0.0)
        found.append(_with_merged_constants(straight, start))
    return found


def _with_merged_constants(template: sympy.Expr, start: dict[sympy.Symbol, float]) -> _Start:
    """A template with the constants that are terms of the same sum merged into one."""
    for node in list(template.atoms(sympy.Add)):
        alone = [term for term in node.args if term in start]
        if len(alone) > 1:
            template = template.xreplace({node: node.func(*(term for term in node.args if term not in alone[1:]))})
            start = {**start, alone[0]: sum(start[symbol] for symbol in alone)}
    return template, {symbol: value for symbol, value in start.items() if template.has(symbol)}
