r"""Views of the data in which a law may be simpler: fewer variables, or transformed labels.

A view consists of data and of the way back: it turns a formula for its data into a formula for the original data. Labels are transformed by
invertible functions such as ``1/y`` or ``log y``; variables are reduced by `kan.discovery.reduction.invariance`.
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

from kan.discovery.reduction.invariance import Reduction, equivalent_reductions, scalings, translations, unchanged
from kan.discovery.reduction.polynomials import Array, Mask, Stop, curve_bases, held_out, noise_floor, wide_columns
from kan.symbolic.evaluation import evaluate_expression

__all__ = [
    "LABEL_TRANSFORMS", "MAX_NOISE_RATIO", "MAX_SUM_ERROR", "LabelTransform", "View", "additive_views", "linear_fit", "reduced_views",
    "rewritten_views", "symbols_of",
]  # fmt: skip

MAX_EXACT_PRODUCT_ERROR = 1e-9
"""Relative error of a view without variables below which the law is a power product, and no other views are needed."""
ADDITIVE_DEGREE = 10
"""Degree of the polynomials of one column in the fit of a sum of curves."""
MAX_REGROUPED_COLUMNS = 2
"""Largest number of columns of a view for which power products of its own columns are tried in their place."""
MAX_POWER_PRODUCT_VIEWS = 5
"""Number of choices of power products of two columns in `rewritten_views`."""
MAX_SUM_ERROR = 0.02
"""Relative error up to which labels count as close to a sum of curves, without noise."""
MAX_NOISE_RATIO = 1.5
"""Ratio of the error of a sum of curves to the noise up to which labels count as close to the sum."""
MIN_RANKED_ERROR = 1e-8
"""Relative error below which two sums of curves are equally good, so that the simpler view comes first."""
MAX_WEIGHT_QUANTILE = 0.9
"""Quantile of the weights above which weights are equal. Without it, a few labels with large or infinite weights would determine a fit."""
MAX_SINE_ANGLE = 1.55
"""Largest size of labels, in radians, whose sine is tried. At pi/2 the inverse has an infinite slope."""
COSINE_ANGLES = (0.02, 3.12)
"""Range of labels, in radians, whose cosine is tried. At 0 and pi the inverse has an infinite slope."""
MAX_TANGENT_ANGLE = 1.5
"""Largest size of labels, in radians, whose tangent is tried. It is infinite at pi/2."""


class LabelTransform(NamedTuple):
    """An invertible function of the labels, after which the law may be simpler.

    Attributes:
        name: the name in messages.
        forward: the function of the labels.
        back: the inverse function.
        inverse: the inverse function of an expression.
        allowed: for which labels the function can be inverted.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    inverse: Callable[[sympy.Expr], sympy.Expr]
    allowed: Callable[[Tensor], Tensor]


LABEL_TRANSFORMS = (
    LabelTransform("y", lambda y: y, lambda v: v, lambda e: e, torch.isfinite),
    LabelTransform("log y", torch.log, torch.exp, sympy.exp, lambda y: y > 0),
    LabelTransform("log -y", lambda y: torch.log(-y), lambda v: -torch.exp(v), lambda e: -sympy.exp(e), lambda y: y < 0),
    LabelTransform("1/y", torch.reciprocal, torch.reciprocal, lambda e: 1 / e, lambda y: y != 0),
    LabelTransform("y^2", torch.square, torch.sqrt, sympy.sqrt, lambda y: y >= 0),
    LabelTransform("1/y^2", lambda y: y**-2, torch.rsqrt, lambda e: 1 / sympy.sqrt(e), lambda y: y > 0),
    LabelTransform("sqrt y", torch.sqrt, torch.square, lambda e: e**2, lambda y: y >= 0),
    LabelTransform("1/sqrt y", torch.rsqrt, lambda v: v**-2, lambda e: e**-2, lambda y: y > 0),
    LabelTransform("sin y", torch.sin, torch.asin, sympy.asin, lambda y: y.abs() < MAX_SINE_ANGLE),
    LabelTransform("cos y", torch.cos, torch.acos, sympy.acos, lambda y: (y > COSINE_ANGLES[0]) & (y < COSINE_ANGLES[1])),
    LabelTransform("tan y", torch.tan, torch.atan, sympy.atan, lambda y: y.abs() < MAX_TANGENT_ANGLE),
)
"""The transforms of the labels that are tried, the identity first."""


@dataclass(frozen=True, eq=False)
class View:
    """Data, and the way back from a formula for them to a formula for the original data.

    Attributes:
        x, y: variables and labels that are fitted, ``(N, k)`` and ``(N, 1)``.
        held_x, held_y: variables and labels of the held-out rows, which no fit uses.
        symbols: symbols of the columns.
        back: from a formula in these symbols to one for the variables and labels that the search began with.
        error: relative error of a polynomial of the columns; infinite if it is not known.
        name: the name in messages.
        reduction: the reduction of the variables that led to this view.
        parent: the view that was reduced.
        original: whether variables and labels are those that the search began with.
        weights: ``(N,)``, by how much an error of each label counts in the labels that the search began with; None if all weights are 1.
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
    parent: View | None = None
    original: bool = True
    weights: Tensor | None = None

    def polynomial_error(self, root: View, stop: Stop = lambda: False) -> tuple[float, bool]:
        """Root mean squared error of polynomials of the columns for the labels of `root`, and whether that error is noise."""
        y, labels = (view.y.flatten().numpy() for view in (self, root))
        return noise_floor(self.x.numpy(), labels / y, labels, stop) if self.symbols and np.all(y != 0) else (math.inf, False)

    def transformed(self, transform: LabelTransform) -> View | None:
        """The view with transformed labels; None if the transform is not defined for them."""
        if transform is LABEL_TRANSFORMS[0]:
            return self
        both = torch.cat([self.y, self.held_y])
        if not bool(transform.allowed(both).all()) or not bool(transform.forward(both).isfinite().all()):
            return None
        with torch.enable_grad():
            before = self.y.detach().requires_grad_()
            y = transform.forward(before)
            slopes = torch.autograd.grad(y.sum(), before)[0].flatten()
        return replace(
            self, y=y.detach(), held_y=transform.forward(self.held_y), back=lambda e: self.back(transform.inverse(e)),
            name=f"{transform.name} of {self.name}", original=False, weights=self._weights_times(slopes.reciprocal().abs()),
        )  # fmt: skip

    def _weights_times(self, factor: Tensor) -> Tensor:
        """The weights times `factor`, where the largest and the infinite ones are equal, see `MAX_WEIGHT_QUANTILE`."""
        weights = factor if self.weights is None else self.weights * factor
        finite = weights[weights.isfinite()]
        return weights.nan_to_num(0.0, math.inf).clamp_max(float(finite.quantile(MAX_WEIGHT_QUANTILE)) if len(finite) else 1.0)

    def reduced(self, reduction: Reduction) -> View | None:
        """The view in other variables; None if their values are not finite."""
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
        return View(
            x, y, held_x, held_y, symbols, lambda e: self.back(reduction.factor * e.xreplace(meaning)), reduction.error,
            f"({name}) of {self.name}" if not self.original else f"({name})", reduction, self, False, self._weights_times(factor.abs()),
        )  # fmt: skip


def linear_fit(view: View) -> tuple[sympy.Expr, float]:
    """The least-squares linear formula of all columns, and its root mean squared residual."""
    centre, mean = view.x.mean(0), view.y.mean()
    slopes = torch.linalg.lstsq(view.x - centre, view.y - mean, driver="gelsd").solution
    residuals = view.y - mean - (view.x - centre) @ slopes
    terms = [sympy.Float(slope, 17) * symbol for slope, symbol in zip(slopes[:, 0].tolist(), view.symbols, strict=True)]
    return sympy.Add(sympy.Float(float(mean - (centre @ slopes)[0]), 17), *terms), float(residuals.square().mean().sqrt())


def symbols_of(name: str, x: Tensor) -> tuple[sympy.Symbol, ...]:
    """A symbol for each column, declared positive if the column is, which helps sympy to simplify."""
    positive = (x > 0).all(0).tolist()
    return tuple(
        sympy.Dummy(f"{name}_{i}", positive=True) if known else sympy.Dummy(f"{name}_{i}", real=True) for i, known in enumerate(positive, 1)
    )


def reduced_views(root: View, given: Reduction | None = None, stop: Stop = lambda: False) -> list[View]:
    """The views with fewer variables, those with the fewest first.

    Args:
        root: the data in all variables.
        given: a known reduction, which comes before all others.
        stop: whether to return the views that were found so far.
    """
    found: list[View] = []

    def add(view: View, reductions: Sequence[Reduction | None]) -> list[View]:
        new = [small for reduction in reductions if reduction is not None and (small := view.reduced(reduction)) is not None]
        found.extend(new)
        return new

    def scaled(view: View) -> list[Reduction]:
        return scalings(view.x.numpy(), view.y.flatten().numpy(), view.symbols, stop)

    known = add(root, [given])
    for view in known:
        if view.error < MAX_EXACT_PRODUCT_ERROR and not view.symbols:
            return known
        if len(view.symbols) > 1:
            add(view, scaled(view))
    if root.x.shape[1] > 1:
        direct = add(root, scaled(root))
        if not any(view.error < MAX_EXACT_PRODUCT_ERROR and not view.symbols for view in direct):
            for shifted in add(root, [translations(root.x.numpy(), root.y.flatten().numpy(), root.symbols, stop)]):
                if len(shifted.symbols) > 1:
                    add(shifted, scaled(shifted))
    return sorted(found, key=lambda view: (view not in known, len(view.symbols), view.error))


def additive_views(
    view: View, most: int = 3, noise: tuple[float, float] | None = None, stop: Stop = lambda: False
) -> list[tuple[View, bool]]:
    """Views whose labels are close to a sum of functions of one column each, or to a product of such functions; the closest first.

    Args:
        view: the view whose labels and columns are transformed.
        most: largest number of views.
        noise: standard deviations of the noise and of the labels that the search began with, if there is noise; errors are then measured in
            these labels.
        stop: whether to return the views that were found so far.

    Returns:
        For each view whether its labels are a product; they are a sum otherwise.
    """
    found: list[tuple[float, int, View, bool]] = []
    for form in _regrouped(view):
        if stop():
            break
        x = form.x.numpy()
        held = held_out(x)
        bases = [
            np.concatenate([np.ones((len(x), 1)), *(basis[:, 1:] for basis in curve_bases(x, wide, ADDITIVE_DEGREE))], 1)
            for wide in wide_columns(x, form.y.flatten().numpy(), stop)
        ]
        predictors = [] if noise else [_predictor(rows, held) for rows in bases]
        for transform in LABEL_TRANSFORMS:
            other = form.transformed(transform)
            if other is None or stop():
                continue
            y, max_error, deviation = other.y.flatten().numpy(), MAX_SUM_ERROR, float(other.y.std(correction=0))
            if noise:
                weights = np.ones(len(y)) if other.weights is None else other.weights.numpy()
                predictors = [_predictor(rows * weights[:, None], held) for rows in bases]
                y, deviation = y * weights, noise[1]
                max_error = max(MAX_SUM_ERROR, MAX_NOISE_RATIO * noise[0] / noise[1])
            mean_square = min(float(np.mean((predict @ y[~held] - y[held]) ** 2)) for predict in predictors)
            error = math.sqrt(mean_square) / max(deviation, 1e-300)
            if error < max_error:
                is_product = transform.name in ("log y", "log -y")
                found.append((max(error, MIN_RANKED_ERROR), len(found), form if is_product else other, is_product))
    return [one[2:] for one in sorted(found, key=lambda one: one[:2])[:most]]


def _predictor(rows: Array, held: Mask) -> Array:
    """The matrix of the least-squares prediction of the held-out labels from the others, ``(held-out rows, other rows)``."""
    q, r = np.linalg.qr(rows[~held])
    return np.asarray(rows[held] @ np.linalg.lstsq(r, q.T, rcond=1e-13)[0])


def rewritten_views(view: View) -> Iterator[View]:
    """The view with transformed labels and, if it has two columns, with other power products as columns."""
    for form in islice(_regrouped(view, factors=False), MAX_POWER_PRODUCT_VIEWS) if len(view.symbols) == 2 else [view]:
        for transform in LABEL_TRANSFORMS:
            if (other := form.transformed(transform)) is not None:
                yield other


def _regrouped(view: View, factors: bool = True) -> Iterator[View]:
    """The view, and then the views with other power products as columns and, if wanted, with other factors of the labels."""
    yield view
    reduction, before = view.reduction, view.parent
    if reduction is None or before is None or reduction.scaling is None:
        if len(view.symbols) > MAX_REGROUPED_COLUMNS:
            return
        reduction, before = unchanged(view.x.numpy(), view.y.flatten().numpy(), view.symbols), view
    for other in equivalent_reductions(reduction, factors):
        if (form := before.reduced(other)) is not None:
            yield form
