"""The steps of the search that express the labels by curves of one variable each: power products, curves, sums and products of curves.

Each step takes the state of the search and some views of the data, and yields candidates. Errors are relative to the deviation of the
labels. `level` is the relative noise that a step assumes; it is that of the state unless a step is repeated on the hypothesis that the
error of polynomials is noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy
from torch import Tensor

from kan.discovery.curves.one_variable import curve_formulas
from kan.discovery.laws.curve_naming import CurveNaming, named_formulas
from kan.discovery.laws.noise import MAX_INFORMATIVE_ERROR, MIN_NOISE, error_weights
from kan.discovery.laws.search_state import Proposal, SearchState, TentativeSum
from kan.discovery.laws.separation import Separation, factors, summands
from kan.discovery.laws.sums_of_products import FittedSum, Pattern, fit_pattern, patterns
from kan.discovery.reduction.views import MAX_NOISE_RATIO, MAX_SUM_ERROR, View, additive_views, rewritten_views

__all__ = [
    "MIN_ALLOWED_ERROR", "certain_sums", "curves_of_one_variable", "power_products", "products", "products_assuming_noise",
    "separable_sums", "sums", "sums_assuming_noise", "tentative_sums",
]  # fmt: skip

MIN_ALLOWED_ERROR = 1e-3
"""Relative error up to which a sum of products, or a separation into parts, is considered whatever the noise: a round choice."""
MAX_ERROR_OF_LAST_PATTERN = 1e-7
"""Relative error of a pattern below which no further patterns of the same view are tried: a round choice."""
MAX_VIEW_ERROR_RATIO = 1.5
"""Largest error of a sum of products, divided by that of the polynomial of the view, with which the sum is considered: a round choice."""
MAX_PRODUCT_COLUMNS = 4
"""Largest number of columns of a view for which all patterns of sums of products are tried: a round choice."""
MAX_NAMED_SUMS = 4
"""Largest number of fitted sums of one view, or in one step, whose curves are named: a round choice."""
MAX_NOISE_HYPOTHESES = 4
"""Largest number of sums in one search that are named on the hypothesis that their errors are noise: a round choice."""
MAX_ERROR_RATIO_OF_SUMS = 100.0
"""Largest error of a sum of products, divided by the least one of the same view, with which it is named if there is no noise: a round
choice."""
MAX_TENTATIVE_RATIO = 3
"""Largest error of a sum, divided by the noise, with which its curves are named at once instead of in a later step: a round choice."""
STARTS_OF_SEPARABLE_SUMS = 8
"""Number of starts of a fit whose pattern was found by an analysis of variance and is therefore likely that of the law: a round choice."""
CANDIDATES_PER_CURVE = 3
"""Largest number of formulas of one variable that become candidates, for each view: a round choice."""
CANDIDATES_PER_SUM, CANDIDATES_PER_NOISY_SUM = 2, 4
"""Largest numbers of formulas of a fitted sum that become candidates, without noise and with noise: round choices."""


def power_products(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
    """Laws that are a power product: views in which no variable is left."""
    for view in views:
        if not view.symbols:
            formula = view.back(sympy.Float(float(view.y.mean()), 17))
            yield Proposal(state.task.evaluator.candidate(formula, view.error), view.name)


def curves_of_one_variable(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
    """Laws of one variable: formulas for the curve in each view with a single column."""
    task, level = state.task, state.noise.level
    for view in views:
        if len(view.symbols) != 1 or state.done:
            continue
        if level:
            known = level if task.given_noise else None
        else:
            known = task.evaluator.given_noise if view.original else None
        found = curve_formulas(
            view.x, view.y, view.symbols[0], library=task.library, noise=known, stop=task.late, weights=_weights(state, view, level)
        )
        deviation = 1.0 if level else float(view.y.std())
        for curve in found[:CANDIDATES_PER_CURVE]:
            if not (state.done and state.laws):  # curves that were found when the time was up are not lost
                least = min(view.error, curve.rmse / deviation)
                yield Proposal(task.evaluator.candidate(view.back(curve.formula), least), view.name)


def sums(state: SearchState, views: Sequence[View], level: float | None = None) -> Iterator[Proposal]:
    """Laws that are a sum of functions of one variable each after a transform of the labels."""
    level = state.noise.level if level is None else level
    for view in views:
        if len(view.symbols) > 1 and not (state.done or state.noise.inferred):
            columns, deviation = range(len(view.symbols)), state.noise.deviation
            noise = (level * deviation, deviation) if level else None
            for form, is_product in additive_views(view, noise=noise, stop=state.task.late):
                if not state.done:
                    pattern = (tuple(columns),) if is_product else tuple((i,) for i in columns)
                    fitted = _fitted(state, form, pattern, level)
                    yield from _named(state, form, fitted, max(MAX_SUM_ERROR, MAX_NOISE_RATIO * level), level)


def sums_assuming_noise(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
    """Laws as in `sums`, on the hypothesis that the error of polynomials is noise."""
    return sums(state, views, state.noise.relative_polynomial_error)


def products(state: SearchState, views: Sequence[View], level: float | None = None) -> Iterator[Proposal]:
    """Laws that are a sum of products of functions of one variable each after a transform of the labels."""
    level = state.noise.level if level is None else level
    for view in views:
        of_view = MAX_VIEW_ERROR_RATIO * view.error if view.error < MAX_INFORMATIVE_ERROR else 0.0
        max_error = max(MIN_ALLOWED_ERROR, MAX_NOISE_RATIO * level, of_view)
        found: list[tuple[float, int, View, FittedSum]] = []
        for form in rewritten_views(view) if 1 < len(view.symbols) <= MAX_PRODUCT_COLUMNS else ():
            for pattern in patterns(len(view.symbols)):
                if state.done or state.noise.inferred:
                    return
                fitted = _fitted(state, form, pattern, level)
                if fitted.error < MAX_ERROR_OF_LAST_PATTERN:
                    yield from _named(state, form, fitted, max_error, level)
                    break
                if fitted.error < max_error:
                    found.append((fitted.error, len(found), form, fitted))
                yield from _named_if_noise(state, form, fitted)
        found.sort(key=lambda one: one[:2])
        for error, _, form, fitted in found[:MAX_NAMED_SUMS]:
            if error < (MAX_NOISE_RATIO if level else MAX_ERROR_RATIO_OF_SUMS) * found[0][0]:
                yield from _named(state, form, fitted, max_error, level)


def products_assuming_noise(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
    """Laws as in `products`, on the hypothesis that the error of polynomials is noise."""
    return products(state, views, state.noise.relative_polynomial_error)


def separable_sums(state: SearchState, view: View) -> Iterator[Proposal | Separation]:
    """Laws whose variables do not all occur together, and separations of the law into parts that are to be searched on their own."""
    late, level = state.task.late, state.noise.level
    for structure in summands(view, stop=late):
        alone = {(i,) for i in range(len(view.symbols))}
        for pattern in dict.fromkeys((structure.pattern, tuple(sorted(alone.union(structure.pattern))))):
            if not state.done:
                fitted = _fitted(state, structure.form, pattern, level, STARTS_OF_SEPARABLE_SUMS)
                max_error = max(MIN_ALLOWED_ERROR, MAX_VIEW_ERROR_RATIO * structure.error)
                yield from _named(state, structure.form, fitted, max_error, level, thorough=True)
        if structure.separation is not None and not state.done:
            yield structure.separation
    if len(view.symbols) > 2 and not state.done and (separation := factors(view, late)) is not None:
        yield separation


def certain_sums(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
    """Laws that are sums of products, fitted by earlier steps nearly without error, in which a curve may combine two functions."""
    several = sorted(state.certain, key=lambda one: (len(one[0].symbols), len(one[1].curves)))
    state.certain.clear()
    for form, fitted in several[:MAX_NAMED_SUMS]:
        yield from _named(state, form, fitted, MIN_NOISE, state.noise.level, thorough=True)


def tentative_sums(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
    """Laws that are sums of products, fitted by earlier steps with errors above the noise; polynomials may be poor for such curves."""
    several = sorted(state.tentative, key=lambda one: one.fitted.error)
    state.tentative.clear()
    for form, fitted, max_error in several[:MAX_NAMED_SUMS]:
        yield from _named(state, form, fitted, max_error, state.noise.level, at_once=True)


def _weights(state: SearchState, view: View, level: float) -> Tensor | None:
    """The weights of the errors of a view, see `kan.discovery.laws.noise.error_weights`."""
    return error_weights(view, level, state.noise.deviation)


def _fitted(state: SearchState, form: View, pattern: Pattern, level: float, starts: int = 2) -> FittedSum:
    """The curves of a pattern, fitted with the weights of the errors."""
    weights = _weights(state, form, level)
    known = None if weights is None else weights.numpy()
    return fit_pattern(form.x.numpy(), form.y.flatten().numpy(), pattern, state.task.seed, starts, known, state.task.late)


def _named_if_noise(state: SearchState, form: View, fitted: FittedSum) -> Iterator[Proposal]:
    """Candidates on the hypothesis that the error of a sum is noise, if polynomials of all columns have a much larger error."""
    noise = state.noise
    if state.task.given_noise or not MIN_NOISE < fitted.error < noise.max_sum_error or noise.inferred:
        return
    if state.noise_hypotheses == MAX_NOISE_HYPOTHESES:
        return
    weighted = _fitted(state, form, fitted.pattern, noise.relative_polynomial_error)  # so that its error is relative to the labels
    if MIN_NOISE < weighted.error < noise.max_sum_error:
        state.noise_hypotheses += 1
        yield from _named(state, form, weighted, noise.max_sum_error, weighted.error)


def _named(
    state: SearchState, form: View, fitted: FittedSum, max_error: float, level: float, thorough: bool = False, at_once: bool = False
) -> Iterator[Proposal]:
    """Candidates with names for the curves of a sum.

    A sum whose error exceeds the noise is kept in the state for later, unless it is named `thorough` or `at_once`. One that has hardly any
    error is also kept, to be named more thoroughly if that should be necessary.

    Args:
        state: the search.
        form: the view that the sum is a fit to.
        fitted: the sum.
        max_error: largest relative error of a sum that is considered.
        level: the relative noise.
        thorough: whether a curve may combine two functions.
        at_once: whether curves are named though the error exceeds the noise.
    """
    if state.done or fitted.error > max_error:
        return
    if not thorough and fitted.error < MIN_NOISE:
        state.certain.append((form, fitted))
    elif not thorough and not at_once and fitted.error > MAX_TENTATIVE_RATIO * level:
        state.tentative.append(TentativeSum(form, fitted, max_error))
        return
    task, weights, before = state.task, _weights(state, form, level), len(state.laws)
    naming = CurveNaming(task.library, task.late, thorough)
    several = named_formulas(form.x, form.y.flatten(), fitted, form.symbols, naming, weights)
    least = fitted.error
    if weights is not None:  # the noise is part of the error of every formula that is close to the law
        least = fitted.error * state.noise.deviation / (2 * task.evaluator.scale)
    for _, formula in several[: CANDIDATES_PER_SUM if weights is None else CANDIDATES_PER_NOISY_SUM]:
        if not (state.done and state.laws):
            yield Proposal(task.evaluator.candidate(form.back(formula), least), f"{fitted.pattern} of {form.name}")
    if level:
        state.noise = state.noise.after(fitted.error, state.laws[before:])
