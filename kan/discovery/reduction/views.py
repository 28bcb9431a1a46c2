r"""Forms of a problem in which its law may be simpler: other labels, fewer variables.

A stage is data and the way back from a formula for them to a formula for the data one began with. Labels are changed by functions that
can be undone, such as ``1/y`` or ``log y``; variables are reduced by `kan.discovery.reduction.invariance`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import sympy
import torch
from torch import Tensor

from kan.discovery.reduction.invariance import Reduction, gauges, scalings, translations, unchanged
from kan.discovery.reduction.polynomials import Array, Mask, Stop, curve_bases, held_out, noise_floor, wide_columns
from kan.symbolic.evaluation import evaluate_expression

__all__ = ["CHANGES", "SEPARATE", "Change", "Stage", "additive", "linear", "reduced", "rewritten", "symbols_of"]

EXACT = 1e-9
"""Share of the labels' deviation below which a power product is the law."""
ADDITIVE_DEGREE = 10
MOST_REWRITTEN = 2
"""Columns that are tried as power products of each other where there is no reduction that says so."""
MOST_PRODUCTS = 5
"""Choices of power products as columns."""
SEPARATE = 0.02
"""Share of the deviation that a sum of curves may miss, to be looked at."""
MUCH_NOISE = 1.5
"""Times the noise that such a sum may miss."""
MOST_WEIGHED = 0.9
"""Quantile of weights above which they count as equal."""


class Change(NamedTuple):
    """A function of the labels, for which the law may be simpler.

    Attributes:
        name: for messages.
        forward: of the labels.
        back: its inverse.
        inverse: the same, of expressions.
        allowed: for which labels it goes both ways.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    inverse: Callable[[sympy.Expr], sympy.Expr]
    allowed: Callable[[Tensor], Tensor]


CHANGES = (
    Change("y", lambda y: y, lambda v: v, lambda e: e, torch.isfinite),
    Change("log y", torch.log, torch.exp, sympy.exp, lambda y: y > 0),
    Change("log -y", lambda y: torch.log(-y), lambda v: -torch.exp(v), lambda e: -sympy.exp(e), lambda y: y < 0),
    Change("1/y", torch.reciprocal, torch.reciprocal, lambda e: 1 / e, lambda y: y != 0),
    Change("y^2", torch.square, torch.sqrt, sympy.sqrt, lambda y: y >= 0),
    Change("1/y^2", lambda y: y**-2, torch.rsqrt, lambda e: 1 / sympy.sqrt(e), lambda y: y > 0),
    Change("sqrt y", torch.sqrt, torch.square, lambda e: e**2, lambda y: y >= 0),
    Change("1/sqrt y", torch.rsqrt, lambda v: v**-2, lambda e: e**-2, lambda y: y > 0),
    Change("sin y", torch.sin, torch.asin, sympy.asin, lambda y: y.abs() < 1.55),
    Change("cos y", torch.cos, torch.acos, sympy.acos, lambda y: (y > 0.02) & (y < 3.12)),
    Change("tan y", torch.tan, torch.atan, sympy.atan, lambda y: y.abs() < 1.5),
)


@dataclass(frozen=True, eq=False)
class Stage:
    """Data, and what a formula for them means.

    Attributes:
        x, y: to be fitted, ``(N, k)`` and ``(N, 1)``.
        held_x, held_y: that no fit has seen.
        symbols: of the columns.
        back: from a formula of these to one of the variables and labels that the search began with.
        error: what a polynomial of the columns misses, as a share of the labels' deviation; infinite if not known.
        name: for messages.
        reduction: how it came about.
        parent: what was reduced.
        plain: whether variables and labels are those that the search began with.
        weights: how much an error of each label counts in those that the search began with, ``(N,)``; None if that is 1.
    """

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    symbols: tuple[sympy.Symbol, ...]
    back: Callable[[sympy.Expr], sympy.Expr]
    error: float = float("inf")
    name: str = "all variables"
    reduction: Reduction | None = None
    parent: Stage | None = None
    plain: bool = True
    weights: Tensor | None = None

    def floor(self, root: Stage, stop: Stop = lambda: False) -> tuple[float, bool]:
        """What polynomials of the columns miss of the labels of `root`, and whether that is noise."""
        y, labels = (stage.y.flatten().numpy() for stage in (self, root))
        return noise_floor(self.x.numpy(), labels / y, labels, stop) if self.symbols and np.all(y != 0) else (math.inf, False)

    def changed(self, change: Change) -> Stage | None:
        """With a function of the labels in their place; None where that is not defined."""
        if change is CHANGES[0]:
            return self
        both = torch.cat([self.y, self.held_y])
        if not bool(change.allowed(both).all()) or not bool(change.forward(both).isfinite().all()):
            return None
        with torch.enable_grad():
            before = self.y.detach().requires_grad_()
            y = change.forward(before)
            slopes = torch.autograd.grad(y.sum(), before)[0].flatten()
        return replace(
            self, y=y.detach(), held_y=change.forward(self.held_y), back=lambda e: self.back(change.inverse(e)),
            name=f"{change.name} of {self.name}", plain=False, weights=self.weighted(slopes.reciprocal().abs()),
        )  # fmt: skip

    def weighted(self, factor: Tensor) -> Tensor:
        """The weights, times `factor`; the largest, infinite ones too, count as equal, or a few labels would be all there is."""
        weights = factor if self.weights is None else self.weights * factor
        finite = weights[weights.isfinite()]
        return weights.nan_to_num(0.0, math.inf).clamp_max(float(finite.quantile(MOST_WEIGHED)) if len(finite) else 1.0)

    def reduced(self, reduction: Reduction) -> Stage | None:
        """In other variables; None where these are not finite."""
        held = dict(zip(self.symbols, self.held_x.unbind(1), strict=True))
        columns = [evaluate_expression(column, held, self.held_y) for column in reduction.columns]
        held_x = torch.stack(columns, 1) if columns else self.held_x[:, :0]
        held_y = self.held_y / evaluate_expression(reduction.factor, held, self.held_y).reshape(-1, 1)
        x, y = torch.as_tensor(reduction.x), torch.as_tensor(reduction.y)[:, None]
        factor = evaluate_expression(reduction.factor, dict(zip(self.symbols, self.x.unbind(1), strict=True)), self.y).expand(len(x))
        if not all(bool(values.isfinite().all()) for values in (x, y, held_x, held_y, factor)):
            return None
        symbols = symbols_of("z", torch.cat([x, held_x]))
        meaning = dict(zip(symbols, reduction.columns, strict=True))
        name = ", ".join(map(str, (reduction.factor, *reduction.columns)))
        return Stage(
            x, y, held_x, held_y, symbols, lambda e: self.back(reduction.factor * e.xreplace(meaning)), reduction.error,
            f"({name}) of {self.name}" if not self.plain else f"({name})", reduction, self, False, self.weighted(factor.abs()),
        )  # fmt: skip


def linear(stage: Stage) -> tuple[sympy.Expr, float]:
    """The least-squares linear formula of all columns, and its root mean squared residual."""
    centre, mean = stage.x.mean(0), stage.y.mean()
    slopes = torch.linalg.lstsq(stage.x - centre, stage.y - mean, driver="gelsd").solution
    residuals = stage.y - mean - (stage.x - centre) @ slopes
    terms = [sympy.Float(slope, 17) * symbol for slope, symbol in zip(slopes[:, 0].tolist(), stage.symbols, strict=True)]
    return sympy.Add(sympy.Float(float(mean - (centre @ slopes)[0]), 17), *terms), float(residuals.square().mean().sqrt())


def symbols_of(name: str, x: Tensor) -> tuple[sympy.Symbol, ...]:
    """A symbol for each column, which knows whether it is positive: that helps to simplify."""
    positive = (x > 0).all(0).tolist()
    return tuple(
        sympy.Dummy(f"{name}_{i}", positive=True) if known else sympy.Dummy(f"{name}_{i}", real=True) for i, known in enumerate(positive, 1)
    )


def reduced(root: Stage, given: Reduction | None = None, stop: Stop = lambda: False) -> list[Stage]:
    """The stages with fewer variables, those with the fewest first; before all others the one that is `given`, if there is one.

    When `stop` says so, these are the ones that were found by then.
    """
    found: list[Stage] = []

    def add(stage: Stage, reductions: Sequence[Reduction | None]) -> list[Stage]:
        new = [small for reduction in reductions if reduction is not None and (small := stage.reduced(reduction)) is not None]
        found.extend(new)
        return new

    def powers(stage: Stage) -> list[Reduction]:
        return scalings(stage.x.numpy(), stage.y.flatten().numpy(), stage.symbols, stop)

    known = add(root, [given])
    for stage in known:
        if stage.error < EXACT and not stage.symbols:
            return known
        if len(stage.symbols) > 1:
            add(stage, powers(stage))
    if root.x.shape[1] > 1:
        direct = add(root, powers(root))
        if not any(stage.error < EXACT and not stage.symbols for stage in direct):
            for shifted in add(root, [translations(root.x.numpy(), root.y.flatten().numpy(), root.symbols, stop)]):
                if len(shifted.symbols) > 1:
                    add(shifted, powers(shifted))
    return sorted(found, key=lambda stage: (stage not in known, len(stage.symbols), stage.error))


def additive(
    stage: Stage, most: int = 3, noise: tuple[float, float] | None = None, stop: Stop = lambda: False
) -> list[tuple[Stage, bool]]:
    """Forms of the stage whose labels are close to a sum of functions of one column each, or a product if so told, the closest first.

    Args:
        stage: that.
        most: how many.
        noise: standard deviations of the errors of the labels that the search began with, and of those labels, if there are such errors:
            then all is measured in these labels.
        stop: asked before every form; those that were found by then are returned.
    """
    found: list[tuple[float, int, Stage, bool]] = []
    for form in _gauged(stage):
        if stop():
            break
        x = form.x.numpy()
        held = held_out(x)
        several = [
            np.concatenate([np.ones((len(x), 1)), *(basis[:, 1:] for basis in curve_bases(x, wide, ADDITIVE_DEGREE))], 1)
            for wide in wide_columns(x, form.y.flatten().numpy(), stop)
        ]
        predictors = [] if noise else [_predictor(rows, held) for rows in several]
        for change in CHANGES:
            other = form.changed(change)
            if other is None or stop():
                continue
            y, allowed, deviation = other.y.flatten().numpy(), SEPARATE, float(other.y.std(correction=0))
            if noise:
                weights = np.ones(len(y)) if other.weights is None else other.weights.numpy()
                predictors = [_predictor(rows * weights[:, None], held) for rows in several]
                y, deviation = y * weights, noise[1]
                allowed = max(SEPARATE, MUCH_NOISE * noise[0] / noise[1])
            missed = min(float(np.mean((predict @ y[~held] - y[held]) ** 2)) for predict in predictors)
            error = math.sqrt(missed) / max(deviation, 1e-300)
            if error < allowed:
                factors = change.name in ("log y", "log -y")
                found.append((max(error, 1e-8), len(found), form if factors else other, factors))
    return [one[2:] for one in sorted(found, key=lambda one: one[:2])[:most]]


def _predictor(rows: Array, held: Mask) -> Array:
    """From the labels of the other rows to those of the rows that are held out."""
    q, r = np.linalg.qr(rows[~held])
    return np.asarray(rows[held] @ np.linalg.lstsq(r, q.T, rcond=1e-13)[0])


def rewritten(stage: Stage) -> Iterator[Stage]:
    """The stage with other labels and, of two columns, other power products."""
    for form in islice(_gauged(stage, factors=False), MOST_PRODUCTS) if len(stage.symbols) == 2 else [stage]:
        for change in CHANGES:
            if (other := form.changed(change)) is not None:
                yield other


def _gauged(stage: Stage, factors: bool = True) -> Iterator[Stage]:
    yield stage
    reduction, before = stage.reduction, stage.parent
    if reduction is None or before is None or reduction.scaling is None:
        if len(stage.symbols) > MOST_REWRITTEN:
            return
        reduction, before = unchanged(stage.x.numpy(), stage.y.flatten().numpy(), stage.symbols), stage
    for other in gauges(reduction, factors):
        if (form := before.reduced(other)) is not None:
            yield form
