"""The constants of a formula: least squares fits, standard errors, and exact numbers in their place.

A formula with P floating-point constants ``theta`` is fitted to N samples by least squares, ``RSS = sum_n (f(x_n; theta) - y_n)^2``, to
round-off. At the optimum the covariance ``sigma^2 (J'J)^{-1}`` with ``sigma^2 = RSS/(N - P)`` and the Jacobian ``J`` gives the standard
errors.

Constants are then replaced by exact numbers, such as ``1/3`` or ``2 pi``, and the remaining constants are refitted, as long as the
description length

    ``N/2 log2(RSS/(N - P) + floor^2) + bits of all constants``

decreases. A constant takes ``log2(|theta|/w)`` bits, where ``w`` is its standard error if all others were known, and at least
``log2(N)/2``. An exact number takes the bits that write it down.

Constants that the data do not determine are removed first. For example, ``c exp(x + b)`` depends on ``c exp(b)`` only, so that ``b``
becomes 0, and one of the four constants of ``(a x + b)/(c x + d)`` becomes 1.

References
    J. Rissanen, "Modeling by shortest data description", 1978, doi:10.1016/0005-1098(78)90005-5.
    S.-M. Udrescu et al., "AI Feynman 2.0: Pareto-optimal symbolic regression exploiting graph modularity", 2020, arXiv:2006.10782.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import sympy
import torch
from torch import Tensor

from kan.formula_text import as_expression
from kan.symbolic.evaluation import evaluator

__all__ = ["Constant", "Fitted", "complexity", "exact_numbers", "fit_constants", "is_finite", "snap_constants"]

RESIDUAL_FLOOR = 1e-13
"""Root mean squared residual, as a share of the root mean square of the labels, below which residuals are round-off and count as equal."""
MIN_RELATIVE_DEVIATION = 1e-2
"""Standard deviation of the labels, as a share of their root mean square, below which it replaces this as their scale; see `_scale`."""
INFINITE_RESIDUAL = 1e100
"""Residual that stands for that of a sample where the formula is not finite, and bound of all residuals and derivatives."""
MAX_GROWTH_OF_CONSTANTS = 1e9
"""Largest factor by which the largest constant may grow when an undetermined one is replaced by a number. A larger growth compensates for
a constant that should be 0 and was moved away from it by round-off."""
NOT_FINITE = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I)
"""Numbers of sympy that make a formula infinite, undefined or imaginary."""
MAX_DENOMINATOR = 12
"""Largest denominator of the fractions among the exact numbers."""


class Constant(NamedTuple):
    """A constant that has not been replaced by an exact number, with its standard error; infinite if the data do not determine it."""

    value: float
    error: float

    def __repr__(self) -> str:
        return f"Constant(value={self.value:.6g}, error={self.error:.2g})"


@dataclass(frozen=True)
class Fitted:
    """A formula with fitted constants.

    Attributes:
        template: the formula with symbols in the place of the constants.
        constants: the values of the constants.
        errors: standard errors of the constants, infinite for a constant that the data do not determine.
        widths: standard errors of the constants if all others were known.
        rss: sum of the squared residuals.
        samples: number of samples.
        scale: scale of the labels, to which residuals are compared; see `_scale`.
        exact_bits: bits of the exact numbers that have replaced constants.
    """

    template: sympy.Expr
    constants: dict[sympy.Symbol, float]
    errors: dict[sympy.Symbol, float]
    widths: dict[sympy.Symbol, float]
    rss: float
    samples: int
    scale: float
    exact_bits: float = 0.0

    @cached_property
    def formula(self) -> sympy.Expr:
        """The formula with the values of the constants."""
        return self.template.xreplace({symbol: sympy.Float(value, 17) for symbol, value in self.constants.items()})

    @property
    def rmse(self) -> float:
        """Root mean squared residual."""
        return math.sqrt(self.rss / self.samples)

    @property
    def bits(self) -> float:
        """Description length of labels and constants, up to a number that is the same for all formulas."""
        constant_bits = sum(self.bits_of(symbol) for symbol in self.constants)
        freedom = self.samples - len(self.constants)  # with as many constants as samples any labels are interpolated
        error = self.rss / freedom + (RESIDUAL_FLOOR * self.scale) ** 2 if freedom > 1 else self.scale**2
        return 0.5 * self.samples * math.log2(error + 1e-300) + constant_bits + self.exact_bits

    def bits_of(self, symbol: sympy.Symbol) -> float:
        """Bits of a constant, to the accuracy with which the data determine it."""
        # Widths do not change when other constants become exact; standard errors do.
        return max(0.5 * math.log2(self.samples), math.log2(1 + abs(self.constants[symbol]) / max(self.widths[symbol], 1e-300)))


class _Data(NamedTuple):
    """Samples and weights for fits of several formulas, and a function that returns True when no more are to be tried."""

    variables: list[sympy.Symbol]
    x: Tensor
    y: Tensor
    stop: Callable[[], bool]
    weights: Tensor | None


def fit_constants(
    formula: sympy.Expr,
    variables: Sequence[sympy.Symbol],
    x: Tensor,
    y: Tensor,
    *,
    start: Mapping[sympy.Symbol, float] | None = None,
    exact_bits: float = 0.0,
    evaluations: int = 200,
    weights: Tensor | None = None,
) -> Fitted:
    """Fit the constants of a formula by Levenberg-Marquardt, from their present values.

    Args:
        formula: the formula. Its floating-point numbers are the constants; integers, fractions and numbers such as pi are not changed. If
            `start` is given, the symbols in it are the constants.
        variables: the symbols of the columns of `x`.
        x: inputs, ``(N, n)``.
        y: labels, ``(N,)`` or ``(N, 1)``.
        start: initial values of the constants, for a formula with symbols in their place.
        exact_bits: bits of exact numbers in the formula, see `Fitted`.
        evaluations: largest number of evaluations of the formula.
        weights: weights of the residuals, ``(N,)``. If they are given, residuals and labels in the result are weighted ones.

    Returns:
        The fit. If the initial values cannot be improved, they are returned.

    Raises:
        ValueError: for a symbol that is not among the variables, a function without an equivalent in torch, or samples that do not match.

    >>> x = sympy.Symbol("x")
    >>> points = torch.linspace(0, 3, 50, dtype=torch.float64)[:, None]
    >>> fit = fit_constants(1.9 * sympy.sin(1.1 * x), [x], points, 2 * torch.sin(points))
    >>> [round(value, 6) for value in fit.constants.values()]
    [2.0, 1.0]
    """
    x, y = x.double(), y.double().flatten()
    if x.dim() != 2 or x.shape != (len(y), len(variables)):
        raise ValueError(
            f"x must have one row per label and a column for each of {list(variables)}; got {tuple(x.shape)} and {len(y)} labels."
        )
    template, constants = _with_symbols(formula) if start is None else (formula, dict(start))
    symbols = list(constants)
    scale = _scale(y if weights is None else weights * y)
    values = np.array([constants[symbol] for symbol in symbols], dtype=float)
    problem = _TemplateResiduals(template, symbols, dict(zip(variables, x.unbind(1), strict=True)), y, weights)
    if symbols:
        values = _optimum(problem, values, evaluations)
    residuals = problem.residuals(values)
    rss = float(residuals @ residuals)
    errors, widths = _standard_errors(problem.jacobian(values), rss, scale)
    found, errors_of, widths_of = (dict(zip(symbols, each.tolist(), strict=True)) for each in (values, errors, widths))
    return Fitted(template, found, errors_of, widths_of, rss, len(y), scale, exact_bits)


def snap_constants(
    fit: Fitted,
    variables: Sequence[sympy.Symbol],
    x: Tensor,
    y: Tensor,
    stop: Callable[[], bool] | None = None,
    weights: Tensor | None = None,
) -> Fitted:
    """Replace constants by exact numbers as long as the description length decreases.

    Args:
        fit: the result of `fit_constants` for the same data.
        variables, x, y, weights: as for `fit_constants`.
        stop: asked before every trial; once it returns True, the present result is returned.

    >>> x = sympy.Symbol("x")
    >>> points = torch.linspace(0, 3, 50, dtype=torch.float64)[:, None]
    >>> fit = fit_constants(0.6 * sympy.sin(3.1 * x) + 0.1, [x], points, 2 * torch.sin(torch.pi * points) / 3)
    >>> snap_constants(fit, [x], points, 2 * torch.sin(torch.pi * points) / 3).formula
    2*sin(pi*x)/3
    """
    data = _Data(list(variables), x.double(), y.double().flatten(), stop or (lambda: False), weights)
    fit = _without_undetermined_constants(fit, data)
    while True:
        for trial in _replacements(fit):
            if data.stop():
                return fit
            new = _with_numbers(fit, trial, data)
            if new is not None and new.bits < fit.bits:
                fit = new
                break
        else:
            return fit


def complexity(formula: sympy.Expr) -> int:
    """Number of nodes of the expression tree."""
    return sum(1 for _ in sympy.preorder_traversal(formula))


def is_finite(formula: sympy.Expr) -> bool:
    """Whether no number in a formula is infinite, undefined or imaginary, as happens if constants overflow.

    >>> x = sympy.Symbol("x")
    >>> is_finite(x + 2), is_finite(x - sympy.oo), is_finite(x**2 / 0), is_finite(sympy.sqrt(-2) * x)
    (True, False, False, False)
    """
    return not formula.has(*NOT_FINITE)


def exact_numbers(value: float, width: float) -> list[tuple[sympy.Expr, float]]:
    """Exact numbers within `width` of `value` and the bits that each takes, the simplest first.

    They are integers and fractions, also multiplied by powers and roots of pi, e, log 2, or roots of small integers.

    >>> exact_numbers(1.5708, 1e-4)[0][0], exact_numbers(0.33333, 1e-4)[0][0]
    (pi/2, 1/3)
    """
    found: dict[sympy.Expr, float] = {}
    for unit, size, bits in _units():
        for numerator, denominator in _fractions(value / size, width / size):
            if numerator == 0 and size != 1:
                continue
            number = sympy.Rational(numerator, denominator) * unit
            cost = bits + 1 + 2 * math.log2(1 + abs(numerator)) + 2 * math.log2(denominator)
            if cost < found.get(number, math.inf):
                found[number] = cost
    return sorted(found.items(), key=lambda item: item[1])


# The fit


def _scale(y: Tensor) -> float:
    """Scale of the labels: their root mean square, or their standard deviation if a large mean dominates them.

    The standard deviation is bounded below such that `RESIDUAL_FLOOR` of it is not less than the round-off of the labels.
    """
    size, deviation = float(y.square().mean().sqrt()), float(y.std(correction=0))
    return size if deviation > MIN_RELATIVE_DEVIATION * size else max(deviation, torch.finfo(y.dtype).eps / RESIDUAL_FLOOR * size)


class _TemplateResiduals:
    """Weighted residuals of a template and their Jacobian, as functions of the values of its constants."""

    def __init__(
        self,
        template: sympy.Expr,
        symbols: Sequence[sympy.Symbol],
        columns: Mapping[sympy.Symbol, Tensor],
        y: Tensor,
        weights: Tensor | None,
    ) -> None:
        self.symbols, self.columns, self.y, self.weights = symbols, columns, y, torch.ones_like(y) if weights is None else weights
        self.value = evaluator(template, {*symbols, *columns})

    def residuals(self, values: np.ndarray) -> np.ndarray:
        """The weighted residuals ``f(x_n) - y_n``, ``(N,)``."""
        with torch.no_grad():
            found = self._value({symbol: self.y.new_full((), value) for symbol, value in zip(self.symbols, values, strict=True)})
        weighted = torch.where(found.isfinite(), self.weights * (found - self.y), INFINITE_RESIDUAL)
        return np.asarray(weighted.clamp(-INFINITE_RESIDUAL, INFINITE_RESIDUAL).numpy())

    def jacobian(self, values: np.ndarray) -> np.ndarray:
        """The Jacobian of the residuals, ``(N, P)``; each sample gets its own copy of the constants, so that one backward pass gives it."""
        if not len(values):
            return np.zeros((len(self.y), 0))
        with torch.enable_grad():
            own = [self.y.new_full((len(self.y),), value).requires_grad_() for value in values]
            total = self._value(dict(zip(self.symbols, own, strict=True))).sum()
            columns = torch.autograd.grad(total, own, allow_unused=True, materialize_grads=True)
        found = torch.stack(columns, 1)
        weighted = torch.where(found.isfinite(), self.weights[:, None] * found, 0.0)
        return np.asarray(weighted.clamp(-INFINITE_RESIDUAL, INFINITE_RESIDUAL).numpy())

    def _value(self, constants: Mapping[sympy.Symbol, Tensor]) -> Tensor:
        return self.value({**self.columns, **constants}, self.y).expand(len(self.y))


def _optimum(problem: _TemplateResiduals, values: np.ndarray, evaluations: int) -> np.ndarray:
    # MINPACK, and none of `kan.solvers`: on 150 formulas of searches for laws its compiled loop took 0.6 of the time for equal residuals.
    from scipy.optimize import leastsq

    begin = problem.residuals(values)
    if len(begin) < len(values) or not np.all(np.abs(begin) < INFINITE_RESIDUAL):
        return values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the steps became too small to count: that is where round-off begins
        found = leastsq(problem.residuals, values, Dfun=problem.jacobian, xtol=3e-16, ftol=3e-16, gtol=3e-16, maxfev=evaluations)[0]
    end = problem.residuals(found)
    better = np.all(np.isfinite(found)) and float(end @ end) <= float(begin @ begin)
    return np.asarray(found) if better else values


def _standard_errors(jacobian: np.ndarray, rss: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors of the constants, and their widths, see `Fitted`.

    The error is infinite if the constant has a component along a direction that the data do not determine.
    """
    count, free = jacobian.shape
    if free == 0:
        return np.zeros(0), np.zeros(0)
    sigma = math.sqrt(rss / max(1, count - free) + (RESIDUAL_FLOOR * scale) ** 2)
    size = np.linalg.norm(jacobian, axis=0)
    empty = size == 0
    size[empty] = 1.0
    values, vectors = np.linalg.eigh((jacobian / size).T @ (jacobian / size))
    loose = values <= 1e-11 * max(values[-1], 1e-300)
    variance = np.square(vectors[:, ~loose] / np.sqrt(values[~loose])).sum(1)
    undetermined = np.square(vectors[:, loose]).sum(1) > 1e-3
    return np.where(undetermined | empty, np.inf, sigma * np.sqrt(variance) / size), np.where(empty, np.inf, sigma / size)


def _with_symbols(formula: sympy.Expr) -> tuple[sympy.Expr, dict[sympy.Symbol, float]]:
    """The formula with a symbol for every floating-point number in it, and the values of the symbols."""
    constants: dict[sympy.Symbol, float] = {}

    def replaced(node: sympy.Expr) -> sympy.Expr:
        if isinstance(node, sympy.Float):
            symbol = sympy.Dummy(f"c{len(constants)}", real=True)
            constants[symbol] = float(node)
            return symbol
        return node.func(*map(replaced, node.args)) if node.args else node

    return replaced(as_expression(formula)), constants


# Undetermined constants and exact numbers


def _with_numbers(fit: Fitted, numbers: Mapping[sympy.Symbol, tuple[sympy.Expr, float]], data: _Data) -> Fitted | None:
    """`fit` with some constants replaced by exact numbers, given with their bits, and the others refitted; None if it becomes infinite."""
    template = fit.template.xreplace({symbol: number for symbol, (number, _) in numbers.items()})
    if not is_finite(template):
        return None
    rest = {symbol: value for symbol, value in fit.constants.items() if symbol not in numbers and template.has(symbol)}
    bits = fit.exact_bits + sum(bits for _, bits in numbers.values())
    return fit_constants(template, data.variables, data.x, data.y, start=rest, exact_bits=bits, weights=data.weights)


def _without_undetermined_constants(fit: Fitted, data: _Data) -> Fitted:
    """`fit` with undetermined constants replaced by 1, -1 or 0, one for each direction that the data do not determine.

    A replacement counts if it does not increase the residuals. Among several, the one that leaves the simplest constants is taken.
    """
    while not data.stop() and any(not math.isfinite(error) for error in fit.errors.values()):
        allowed = fit.rss * (1 + 1e-6) + fit.samples * (10 * RESIDUAL_FLOOR * fit.scale) ** 2
        found = []
        for symbol in [symbol for symbol, error in fit.errors.items() if not math.isfinite(error)]:
            if data.stop():
                return fit
            for number in (1, -1, 0):
                new = _continued_to(fit, symbol, number, data)
                if new is not None and new.rss <= allowed and _largest(new) <= MAX_GROWTH_OF_CONSTANTS * _largest(fit):
                    found.append(new)
                    break
        if not found:
            return fit
        fit = min(found, key=_bits_when_exact)
    return fit


def _largest(fit: Fitted) -> float:
    return max(map(abs, fit.constants.values()), default=0.0)


def _continued_to(fit: Fitted, symbol: sympy.Symbol, number: int, data: _Data, steps: int = 4) -> Fitted | None:
    """`fit` with an undetermined constant moved to `number` in several steps, each of which refits the others (continuation)."""
    value = fit.constants[symbol]
    if number * value < 0:
        return None
    for step in range(1, steps):
        share = step / steps  # equal ratios on the way to 1 or -1, equal differences on the way to 0
        target = math.copysign(abs(value) ** (1 - share), value) if number else value * (1 - share)
        moved = _with_numbers(fit, {symbol: (sympy.Float(target, 17), 0.0)}, data)
        if moved is None or len(moved.constants) + 1 != len(fit.constants):
            return None
        fit = replace(fit, constants={**moved.constants, symbol: target})
    return _with_numbers(fit, {symbol: (sympy.Integer(number), 1.0)}, data)


def _bits_when_exact(fit: Fitted) -> float:
    """Bits of the constants if each is replaced by the simplest exact number within its error."""
    total = 0.0
    for symbol, value in fit.constants.items():
        error = fit.errors[symbol]
        numbers = exact_numbers(value, 4 * error + 1e-9 * abs(value)) if math.isfinite(error) else [(sympy.Integer(0), 1.0)]
        total += min([bits for _, bits in numbers[:1]] + [fit.bits_of(symbol)])
    return total


def _replacements(fit: Fitted) -> Iterator[dict[sympy.Symbol, tuple[sympy.Expr, float]]]:
    """Exact numbers, with their bits, that may replace constants: first of all together, then of single ones.

    The constants with the largest relative errors come first.
    """
    symbols = sorted(fit.constants, key=lambda symbol: -fit.errors[symbol] / max(abs(fit.constants[symbol]), 1e-300))
    near = {}
    for symbol in symbols:
        value, error = fit.constants[symbol], fit.errors[symbol]
        numbers = exact_numbers(value, 4 * error + 1e-12 * abs(value)) if math.isfinite(error) else []
        near[symbol] = [(number, bits) for number, bits in numbers[:3] if bits < fit.bits_of(symbol)]
    together = {symbol: numbers[0] for symbol, numbers in near.items() if numbers}
    if len(together) > 1:
        yield together
    for symbol, numbers in near.items():
        for number in numbers:
            yield {symbol: number}


def _fractions(value: float, width: float) -> Iterator[tuple[int, int]]:
    """Fractions in lowest terms within `width` of `value`."""
    if not math.isfinite(value) or abs(value) > 1e6:
        return
    for denominator in range(1, MAX_DENOMINATOR + 1):
        numerator = round(value * denominator)
        if abs(numerator / denominator - value) <= width and math.gcd(numerator, denominator) == 1:
            yield numerator, denominator


def _units() -> list[tuple[sympy.Expr, float, float]]:
    """The numbers whose rational multiples count as exact, with their values and the bits that name them."""
    if not _UNITS:
        pi = sympy.pi
        several = [pi, 1 / pi, pi**2, 1 / pi**2, sympy.sqrt(pi), 1 / sympy.sqrt(pi), sympy.sqrt(2 * pi), 1 / sympy.sqrt(2 * pi)]
        several += [sympy.E, 1 / sympy.E, sympy.log(2), *(sympy.sqrt(n) for n in (2, 3, 5, 6, 7))]
        _UNITS.extend([(sympy.Integer(1), 1.0, 0.0), *((unit, float(unit), 5.0) for unit in several)])
    return _UNITS


_UNITS: list[tuple[sympy.Expr, float, float]] = []
