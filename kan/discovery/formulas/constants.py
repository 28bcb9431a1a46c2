r"""The constants of a formula: fitted to data until round-off, with standard errors, and made exact where the data allow it.

A formula with floating-point constants ``theta`` is fitted by least squares, ``RSS = sum_n (f(x_n; theta) - y_n)^2``, with the Jacobian of
one backward pass. At the optimum ``cov = sigma^2 (J'J)^{-1}`` with ``sigma^2 = RSS/(N - P)`` gives the standard errors ``s``.

A constant costs the bits that the data determine it to, ``log2(|theta|/w)`` with ``w`` its error if all others were known, and
``log2(N)/2`` at least; an exact number costs those that write it down. It takes the place of the constant, and all others are fitted anew,
if that makes the description

    ``N/2 log2(RSS/(N - P) + floor^2) + bits of all constants``

shorter. Before that freedoms go that the data do not determine: in ``c exp(x + b)`` only ``c exp(b)`` matters, and ``b`` becomes zero; in
``(a x + b)/(c x + d)`` one of the four becomes one.

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

FLOOR = 1e-13
"""Share of the root mean square of the labels below which residuals are round-off."""
OFFSET = 1e-2
"""Deviation of labels, as a share of their root mean square, below which they are far from zero."""
REFUSED = 1e100
"""Residual of a point where the formula is not finite."""
RUNAWAY = 1e9
"""Growth of constants that says that another one, which is zero but for round-off, was led away from zero."""
NOT_FINITE = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I)
LARGEST = 12
"""Denominators of exact numbers reach to here."""


class Constant(NamedTuple):
    """A number in a formula that could not be made exact, with its standard error, which is infinite where the data do not determine it."""

    value: float
    error: float

    def __repr__(self) -> str:
        return f"Constant(value={self.value:.6g}, error={self.error:.2g})"


@dataclass(frozen=True)
class Fitted:
    """A formula with fitted constants.

    Attributes:
        template: the formula, with symbols in the place of the constants that are free.
        constants: their values.
        errors: their standard errors; infinite where the data do not determine a constant.
        widths: their standard errors if all others were known.
        rss: sum of the squared residuals.
        samples: how many there are.
        scale: size of the labels, see `_size`.
        exact_bits: of the numbers that took the place of constants.
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
        """With the constants put in."""
        return self.template.xreplace({symbol: sympy.Float(value, 17) for symbol, value in self.constants.items()})

    @property
    def rmse(self) -> float:
        """Root mean squared residual."""
        return math.sqrt(self.rss / self.samples)

    @property
    def bits(self) -> float:
        """Length of the description of labels and constants, but for what all formulas have in common."""
        free = sum(self.bits_of(symbol) for symbol in self.constants)
        left = self.samples - len(self.constants)  # as many constants as samples go through any labels
        error = self.rss / left + (FLOOR * self.scale) ** 2 if left > 1 else self.scale**2
        return 0.5 * self.samples * math.log2(error + 1e-300) + free + self.exact_bits

    def bits_of(self, symbol: sympy.Symbol) -> float:
        """What a free constant costs."""
        # By widths, which do not change when others become exact.
        return max(0.5 * math.log2(self.samples), math.log2(1 + abs(self.constants[symbol]) / max(self.widths[symbol], 1e-300)))


class _Data(NamedTuple):
    """What formulas are fitted to, and when to end."""

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
        formula: its floating-point numbers are the constants; integers, rationals, pi and so on stay. With `start`, the symbols there are.
        variables: the columns of `x`.
        x: ``(N, n)``.
        y: ``(N,)`` or ``(N, 1)``.
        start: of constants that are symbols already.
        exact_bits: see `Fitted`.
        evaluations: of the formula, at most.
        weights: of the residuals, ``(N,)``; all that is told of residuals and labels is told of weighted ones then.

    Returns:
        The fit; the values that the formula came with if they cannot be improved.

    Raises:
        ValueError: for a symbol that is none of the variables, a function without an equivalent in torch, or samples that do not match.

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
    template, constants = _parted(formula) if start is None else (formula, dict(start))
    symbols = list(constants)
    scale = _size(y if weights is None else weights * y)
    values = np.array([constants[symbol] for symbol in symbols], dtype=float)
    problem = _Problem(template, symbols, dict(zip(variables, x.unbind(1), strict=True)), y, weights)
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
    """Put exact numbers in the place of constants for as long as the description becomes shorter.

    Args:
        fit: of `fit_constants` to the same data.
        variables, x, y, weights: as there.
        stop: asked before every trial; what was found so far is returned when it says so.

    >>> x = sympy.Symbol("x")
    >>> points = torch.linspace(0, 3, 50, dtype=torch.float64)[:, None]
    >>> fit = fit_constants(0.6 * sympy.sin(3.1 * x) + 0.1, [x], points, 2 * torch.sin(torch.pi * points) / 3)
    >>> snap_constants(fit, [x], points, 2 * torch.sin(torch.pi * points) / 3).formula
    2*sin(pi*x)/3
    """
    data = _Data(list(variables), x.double(), y.double().flatten(), stop or (lambda: False), weights)
    fit = _without_freedoms(fit, data)
    while True:
        for trial in _trials(fit):
            if data.stop():
                return fit
            new = _with_numbers(fit, trial, data)
            if new is not None and new.bits < fit.bits:
                fit = new
                break
        else:
            return fit


def complexity(formula: sympy.Expr) -> int:
    """Nodes of the expression."""
    return sum(1 for _ in sympy.preorder_traversal(formula))


def is_finite(formula: sympy.Expr) -> bool:
    """Whether no number in a formula is infinite, undefined or imaginary, as constants beyond what floating-point numbers hold are.

    >>> x = sympy.Symbol("x")
    >>> is_finite(x + 2), is_finite(x - sympy.oo), is_finite(x**2 / 0), is_finite(sympy.sqrt(-2) * x)
    (True, False, False, False)
    """
    return not formula.has(*NOT_FINITE)


def exact_numbers(value: float, width: float) -> list[tuple[sympy.Expr, float]]:
    """Numbers that are simple to write within `width` of `value`, with the bits that this takes, the simplest first.

    They are integers, fractions, and these times pi, its inverse, roots of small integers, e, or roots of pi.

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


def _size(y: Tensor) -> float:
    """Root mean square of labels; their deviation, or their round-off over `FLOOR` if that is larger, where they are far from zero."""
    size, deviation = float(y.square().mean().sqrt()), float(y.std(correction=0))
    return size if deviation > OFFSET * size else max(deviation, torch.finfo(y.dtype).eps / FLOOR * size)


class _Problem:
    """Residuals and Jacobian of a template."""

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
        """``f(x_n) - y_n``, weighted."""
        with torch.no_grad():
            found = self._value({symbol: self.y.new_full((), value) for symbol, value in zip(self.symbols, values, strict=True)})
        return np.asarray(torch.where(found.isfinite(), self.weights * (found - self.y), REFUSED).clamp(-REFUSED, REFUSED).numpy())

    def jacobian(self, values: np.ndarray) -> np.ndarray:
        """``(N, P)``: every sample has constants of its own, so that one backward pass gives all rows."""
        if not len(values):
            return np.zeros((len(self.y), 0))
        with torch.enable_grad():
            own = [self.y.new_full((len(self.y),), value).requires_grad_() for value in values]
            total = self._value(dict(zip(self.symbols, own, strict=True))).sum()
            columns = torch.autograd.grad(total, own, allow_unused=True, materialize_grads=True)
        found = torch.stack(columns, 1)
        return np.asarray(torch.where(found.isfinite(), self.weights[:, None] * found, 0.0).clamp(-REFUSED, REFUSED).numpy())

    def _value(self, constants: Mapping[sympy.Symbol, Tensor]) -> Tensor:
        return self.value({**self.columns, **constants}, self.y).expand(len(self.y))


def _optimum(problem: _Problem, values: np.ndarray, evaluations: int) -> np.ndarray:
    # MINPACK, and none of `kan.solvers`: on 150 formulas of searches for laws its compiled loop took 0.6 of the time for equal residuals.
    from scipy.optimize import leastsq

    begin = problem.residuals(values)
    if len(begin) < len(values) or not np.all(np.abs(begin) < REFUSED):
        return values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the steps became too small to count: that is where round-off begins
        found = leastsq(problem.residuals, values, Dfun=problem.jacobian, xtol=3e-16, ftol=3e-16, gtol=3e-16, maxfev=evaluations)[0]
    end = problem.residuals(found)
    better = np.all(np.isfinite(found)) and float(end @ end) <= float(begin @ begin)
    return np.asarray(found) if better else values


def _standard_errors(jacobian: np.ndarray, rss: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors, infinite for constants that have a part in a direction that the data do not determine; and widths, see `Fitted`."""
    count, free = jacobian.shape
    if free == 0:
        return np.zeros(0), np.zeros(0)
    sigma = math.sqrt(rss / max(1, count - free) + (FLOOR * scale) ** 2)
    size = np.linalg.norm(jacobian, axis=0)
    empty = size == 0
    size[empty] = 1.0
    values, vectors = np.linalg.eigh((jacobian / size).T @ (jacobian / size))
    loose = values <= 1e-11 * max(values[-1], 1e-300)
    variance = np.square(vectors[:, ~loose] / np.sqrt(values[~loose])).sum(1)
    undetermined = np.square(vectors[:, loose]).sum(1) > 1e-3
    return np.where(undetermined | empty, np.inf, sigma * np.sqrt(variance) / size), np.where(empty, np.inf, sigma / size)


def _parted(formula: sympy.Expr) -> tuple[sympy.Expr, dict[sympy.Symbol, float]]:
    """The formula with symbols in the place of its floating-point numbers, each a constant of its own, and their values."""
    constants: dict[sympy.Symbol, float] = {}

    def part(node: sympy.Expr) -> sympy.Expr:
        if isinstance(node, sympy.Float):
            symbol = sympy.Dummy(f"c{len(constants)}", real=True)
            constants[symbol] = float(node)
            return symbol
        return node.func(*map(part, node.args)) if node.args else node

    return part(as_expression(formula)), constants


# Freedoms and exact numbers


def _with_numbers(fit: Fitted, numbers: Mapping[sympy.Symbol, tuple[sympy.Expr, float]], data: _Data) -> Fitted | None:
    """`fit` with numbers, and their bits, in the place of some constants and the others fitted anew; None if that makes no sense."""
    template = fit.template.xreplace({symbol: number for symbol, (number, _) in numbers.items()})
    if not is_finite(template):
        return None
    rest = {symbol: value for symbol, value in fit.constants.items() if symbol not in numbers and template.has(symbol)}
    bits = fit.exact_bits + sum(bits for _, bits in numbers.values())
    return fit_constants(template, data.variables, data.x, data.y, start=rest, exact_bits=bits, weights=data.weights)


def _without_freedoms(fit: Fitted, data: _Data) -> Fitted:
    """`fit` with as many constants less as there are directions that the data do not determine."""
    while not data.stop() and any(not math.isfinite(error) for error in fit.errors.values()):
        allowed = fit.rss * (1 + 1e-6) + fit.samples * (10 * FLOOR * fit.scale) ** 2
        found = []
        for symbol in [symbol for symbol, error in fit.errors.items() if not math.isfinite(error)]:
            if data.stop():
                return fit
            for number in (1, -1, 0):
                new = _led_to(fit, symbol, number, data)
                if new is not None and new.rss <= allowed and _largest(new) <= RUNAWAY * _largest(fit):
                    found.append(new)
                    break
        if not found:
            return fit
        fit = min(found, key=_simplicity)
    return fit


def _largest(fit: Fitted) -> float:
    return max(map(abs, fit.constants.values()), default=0.0)


def _led_to(fit: Fitted, symbol: sympy.Symbol, number: int, data: _Data, steps: int = 4) -> Fitted | None:
    """`fit` with a constant that is not determined led to `number`, and the others along with it."""
    value = fit.constants[symbol]
    if number * value < 0:
        return None
    for step in range(1, steps):
        share = step / steps  # scales by equal ratios, others by equal parts
        target = math.copysign(abs(value) ** (1 - share), value) if number else value * (1 - share)
        moved = _with_numbers(fit, {symbol: (sympy.Float(target, 17), 0.0)}, data)
        if moved is None or len(moved.constants) + 1 != len(fit.constants):
            return None
        fit = replace(fit, constants={**moved.constants, symbol: target})
    return _with_numbers(fit, {symbol: (sympy.Integer(number), 1.0)}, data)


def _simplicity(fit: Fitted) -> float:
    """Bits of the constants if all become exact that can be."""
    total = 0.0
    for symbol, value in fit.constants.items():
        error = fit.errors[symbol]
        numbers = exact_numbers(value, 4 * error + 1e-9 * abs(value)) if math.isfinite(error) else [(sympy.Integer(0), 1.0)]
        total += min([bits for _, bits in numbers[:1]] + [fit.bits_of(symbol)])
    return total


def _trials(fit: Fitted) -> Iterator[dict[sympy.Symbol, tuple[sympy.Expr, float]]]:
    """Numbers that may take the place of constants: of all at once, then one by one, what is determined least first."""
    symbols = sorted(fit.constants, key=lambda symbol: -fit.errors[symbol] / max(abs(fit.constants[symbol]), 1e-300))
    near = {}
    for symbol in symbols:
        value, error = fit.constants[symbol], fit.errors[symbol]
        numbers = exact_numbers(value, 4 * error + 1e-12 * abs(value)) if math.isfinite(error) else []
        near[symbol] = [(number, bits) for number, bits in numbers[:3] if bits < fit.bits_of(symbol)]
    at_once = {symbol: numbers[0] for symbol, numbers in near.items() if numbers}
    if len(at_once) > 1:
        yield at_once
    for symbol, numbers in near.items():
        for number in numbers:
            yield {symbol: number}


def _fractions(value: float, width: float) -> Iterator[tuple[int, int]]:
    """Fractions in lowest terms within `width` of `value`."""
    if not math.isfinite(value) or abs(value) > 1e6:
        return
    for denominator in range(1, LARGEST + 1):
        numerator = round(value * denominator)
        if abs(numerator / denominator - value) <= width and math.gcd(numerator, denominator) == 1:
            yield numerator, denominator


def _units() -> list[tuple[sympy.Expr, float, float]]:
    """What exact numbers are fractions of, with their values and the bits that naming them takes."""
    if not _UNITS:
        pi = sympy.pi
        several = [pi, 1 / pi, pi**2, 1 / pi**2, sympy.sqrt(pi), 1 / sympy.sqrt(pi), sympy.sqrt(2 * pi), 1 / sympy.sqrt(2 * pi)]
        several += [sympy.E, 1 / sympy.E, sympy.log(2), *(sympy.sqrt(n) for n in (2, 3, 5, 6, 7))]
        _UNITS.extend([(sympy.Integer(1), 1.0, 0.0), *((unit, float(unit), 5.0) for unit in several)])
    return _UNITS


_UNITS: list[tuple[sympy.Expr, float, float]] = []
