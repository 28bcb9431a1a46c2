"""The search for a law: a table of steps, simple and fast ones first, that propose candidates until one of them settles the search.

All candidates are evaluated on the original data, whichever step proposed them, see `kan.discovery.laws.candidates`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Literal, NamedTuple

import sympy
from torch import Tensor

from kan.discovery.laws import curve_steps
from kan.discovery.laws.candidates import ROUND_OFF_ERROR, Evaluator, Law, distinct
from kan.discovery.laws.noise import MAX_INFORMATIVE_ERROR, MAX_NEAR_VIEW_ERROR, estimated_noise
from kan.discovery.laws.search_state import Proposal, SearchState
from kan.discovery.laws.separation import Separation
from kan.discovery.laws.trained_networks import trained_networks
from kan.discovery.reduction.views import View, linear_fit, reduced_views
from kan.symbolic.evaluation import evaluate_expression

__all__ = ["search"]

MAX_NOISE_RATIO_OF_NEAR_VIEW = 1.3
"""Largest error of the polynomial of a view, divided by the noise, with which the view is searched before others when noise is visible: a
round choice."""
MAX_COLUMNS_OF_SMALL_VIEW = 3
"""Largest number of columns of a view that is searched for sums of products before the other views: a round choice."""
MAX_RESIDUAL_SEARCHES = 3
"""Largest number of candidates whose residuals one step searches for a law: a round choice."""
FORMULAS_PER_PART = 2
"""Largest number of formulas of one part of a law that are combined with those of the other parts: a round choice."""
MAX_PART_COMBINATIONS = 4
"""Largest number of combinations of formulas of the parts that become candidates: a round choice."""
MAX_SEPARATION_NOISE_RATIO = 3
"""Largest error of a separation, divided by the noise, with which its parts are searched: a round choice."""
PART_NOISE_RATIO = 2
"""Assumed standard deviation of the errors of a part's labels, divided by the error of the separation: a round choice."""


class ViewGroups(NamedTuple):
    """The views of the data in groups, from which the steps of the search choose.

    Attributes:
        near: views whose polynomials are close to the labels, and at last the data in all variables.
        far: the other views.
        small: near views of at most `MAX_COLUMNS_OF_SMALL_VIEW` columns.
        not_small: all other views.
        root: the data in all variables.
        none: no views, for steps that continue with what earlier steps left in the state.
    """

    near: Sequence[View]
    far: Sequence[View]
    small: Sequence[View]
    not_small: Sequence[View]
    root: Sequence[View]
    none: Sequence[View] = ()


class SearchStep(NamedTuple):
    """A step of the search.

    Attributes:
        name: its name in the progress bar.
        function: yields candidates for some views of the data.
        views: the group of views that the function takes.
        condition: when the step runs: always, if the error of polynomials may be noise, or only in a search that uses networks.
    """

    name: str
    function: Callable[[SearchState, Sequence[View]], Iterator[Proposal]]
    views: Literal["near", "far", "small", "not_small", "root", "none"]
    condition: Literal["always", "if noise is doubtful", "with networks"] = "always"

    def applies(self, state: SearchState) -> bool:
        """Whether the step runs in this search."""
        holds = {"always": True, "if noise is doubtful": state.noise.doubtful, "with networks": state.task.use_networks}
        return holds[self.condition]


def search(state: SearchState) -> SearchState:
    """Search until a law settles the search, one explains the data as well as the noise allows, or the time is up.

    Args:
        state: a new state. It is changed in place, so that candidates which were found before an interrupt are kept.

    Returns:
        The same state, with the candidates.
    """
    task = state.task
    root = task.root
    if not root.symbols or bool((root.y == root.y[0]).all()):
        state.add(Proposal(task.evaluator.candidate(root.back(sympy.Float(float(root.y.mean()), 17)), math.inf), root.name))
        return state
    formula, error = linear_fit(root)
    if error < ROUND_OFF_ERROR * float(root.y.std()):  # polynomials of many columns need longer for this
        state.add(Proposal(task.evaluator.candidate(root.back(formula), ROUND_OFF_ERROR), "straight line"))
        if state.settled:
            return state
    groups = _grouped_views(state)
    for step in [step for step in SEARCH_STEPS if step.applies(state)]:
        if not (task.late() or state.settled or state.noise.explains(state.laws)):
            state.step = step.name
            state.report()
            for proposal in step.function(state, getattr(groups, step.views)):
                state.add(proposal)
    return state


def _grouped_views(state: SearchState) -> ViewGroups:
    """The views of the data in groups; the noise that their polynomials show is written into the state."""
    task, root = state.task, state.task.root
    views = reduced_views(root, task.known_reduction, task.late)
    errors = {view: view.polynomial_error(root, task.late) for view in (*views, root)}
    state.noise = noise = estimated_noise(root, list(errors.values()), task.given_noise)
    near = [view for view in views if view.error < MAX_NEAR_VIEW_ERROR or view.reduction is task.known_reduction]
    bound = MAX_NOISE_RATIO_OF_NEAR_VIEW * noise.polynomial_error
    near += [view for view in views if noise.visible and view not in near and errors[view][0] < bound]
    near.append(root)
    far = [view for view in views if view not in near]
    small = [view for view in near if len(view.symbols) <= MAX_COLUMNS_OF_SMALL_VIEW]
    return ViewGroups(near, far, small, [view for view in (*near, *far) if view not in small], [root])


def parts(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
    """Laws that separate into terms or factors of few variables each, which are searched one by one."""
    for view in views:
        if len(view.symbols) < 2 or state.done:
            continue
        for found in curve_steps.separable_sums(state, view):
            if isinstance(found, Separation):
                yield from _combined(state, found)
            else:
                yield found


def _combined(state: SearchState, separation: Separation) -> Iterator[Proposal]:
    """Candidates that combine the laws found for the parts of a separation."""
    form = separation.form
    if separation.error > max(curve_steps.MIN_ALLOWED_ERROR, MAX_SEPARATION_NOISE_RATIO * state.noise.level):
        return
    noise = PART_NOISE_RATIO * max(separation.error, 1e-9) * float(form.y.std())
    found = [_formulas_of_part(state, part, noise) for part in separation.parts]
    operation = sympy.Mul if separation.is_product else sympy.Add
    for several in islice(product(*found), MAX_PART_COMBINATIONS):
        if not state.done:
            formula = form.back(sympy.Float(separation.constant, 17) + operation(*several))
            yield Proposal(state.task.evaluator.candidate(formula, separation.error), f"parts of {form.name}")


def residuals(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
    """Laws that are the best candidate, corrected by another law that is added or multiplied; repeated for the next best candidates."""
    for view in views:
        deviation = float(view.y.std())
        for _ in range(MAX_RESIDUAL_SEARCHES):
            bound = MAX_INFORMATIVE_ERROR * deviation
            laws = [law for law in state.laws if law.formula is not None and law.held_out < bound and law not in state.explored]
            if state.done or not laws:
                return
            law = min(laws, key=lambda law: law.bits)
            state.explored.append(law)
            for divided in (False, True):
                yield from corrected(state, law, view, divided)


def corrected(state: SearchState, law: Law, view: View, divided: bool) -> Iterator[Proposal]:
    """A law corrected by a second one: by a term that its residuals follow, or, if `divided`, by a factor that the ratios follow."""
    assert law.formula is not None, "a network without a formula cannot be corrected"
    evaluator = state.task.evaluator
    formula = law.formula.xreplace({symbol: inner for inner, symbol in evaluator.names.items()})
    rest: list[Tensor] = []
    for x, y in ((view.x, view.y), (view.held_x, view.held_y)):
        value = evaluate_expression(formula, dict(zip(view.symbols, x.unbind(1), strict=True)), y).reshape(-1, 1)
        rest.append(y / value if divided else y - value)
    if state.done or not all(bool(values.isfinite().all()) for values in rest):
        return
    if float(rest[0].std()) <= ROUND_OFF_ERROR * float(rest[0].abs().mean()):
        return
    part = replace(view, y=rest[0], held_y=rest[1], name=f"what {'divides' if divided else 'is left of'} {view.name}")
    operation = sympy.Mul if divided else sympy.Add
    for other in _formulas_of_part(state, part, None):
        if not state.done:
            error = law.held_out / evaluator.scale
            yield Proposal(evaluator.candidate(view.back(operation(formula, other)), error), part.name)


def _formulas_of_part(state: SearchState, part: View, noise: float | None) -> list[sympy.Expr]:
    """Formulas for a part of a law, whose labels have errors of the standard deviation `noise`; None if that is not known."""
    task = state.task
    names = dict(zip(part.symbols, part.symbols, strict=True))
    size = float(part.y.square().mean().sqrt())
    evaluator = Evaluator(part, (part.held_x, part.held_y), names, size, noise, task.late, make_exact=False)
    part_task = replace(task, root=part, evaluator=evaluator, notify=lambda step, best: None, known_reduction=None, use_networks=False)
    found = search(SearchState(part_task))
    laws = sorted(distinct(found.laws), key=lambda law: (not law.settled, law.bits))
    return [law.formula for law in laws if law.formula is not None][:FORMULAS_PER_PART]


SEARCH_STEPS = (
    SearchStep("power products", curve_steps.power_products, "near"),
    SearchStep("curves", curve_steps.curves_of_one_variable, "near"),
    SearchStep("sums", curve_steps.sums, "near"),
    SearchStep("sums", curve_steps.sums, "far"),
    SearchStep("sums in noise", curve_steps.sums_assuming_noise, "near", "if noise is doubtful"),
    SearchStep("parts", parts, "near"),
    SearchStep("sums of composite curves", curve_steps.certain_sums, "none"),
    SearchStep("products", curve_steps.products, "small"),
    SearchStep("approximate sums", curve_steps.tentative_sums, "none"),
    SearchStep("products in noise", curve_steps.products_assuming_noise, "small", "if noise is doubtful"),
    SearchStep("sums of composite curves", curve_steps.certain_sums, "none", "with networks"),
    SearchStep("power products", curve_steps.power_products, "far", "with networks"),
    SearchStep("curves", curve_steps.curves_of_one_variable, "far", "with networks"),
    SearchStep("products", curve_steps.products, "not_small", "with networks"),
    SearchStep("approximate sums", curve_steps.tentative_sums, "none", "with networks"),
    SearchStep("residuals", residuals, "root", "with networks"),
    SearchStep("networks", trained_networks, "near", "with networks"),
    SearchStep("residuals", residuals, "root", "with networks"),
)
"""The steps of a search in the order in which they run."""
