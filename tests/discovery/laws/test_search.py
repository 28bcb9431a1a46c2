"""The steps of the search, on data whose law is known."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import sympy
import torch
from torch import Tensor

from kan.datasets.problem_sets import problems
from kan.discovery.curves.one_variable import CurveFormula, curve_formulas
from kan.discovery.laws import curve_steps
from kan.discovery.laws import search as module
from kan.discovery.laws.candidates import Evaluator, Law
from kan.discovery.laws.search import SEARCH_STEPS, SearchStep, ViewGroups, search
from kan.discovery.laws.search_state import Proposal, SearchState, SearchTask
from kan.discovery.reduction.views import View, symbols_of
from kan.symbolic.evaluation import evaluate_expression

TASKS = {problem.name: problem for problem in problems("kan27")}


def new_search(
    x: Tensor, y: Tensor, noise: float | None = None, use_networks: bool = False, late: bool = False, looks: float = math.inf
) -> SearchState:
    """A search, by default without networks and the steps after them, which would find some laws late."""
    held = torch.arange(len(x)) % 5 == 2
    root = View(x[~held], y[~held], x[held], y[held], symbols_of("x", x), lambda e: e)
    names = {symbol: sympy.Symbol(f"x_{i}") for i, symbol in enumerate(root.symbols, start=1)}
    count = itertools.count()

    def is_late() -> bool:
        return late or next(count) > looks

    evaluator = Evaluator(root, (root.held_x, root.held_y), names, float(y.square().mean().sqrt()), noise, is_late)
    return SearchState(SearchTask(root, evaluator, None, 0, is_late, lambda: 1e3, lambda step, best: None, use_networks=use_networks))


def best_in_noise(task: str, noise: float) -> tuple[SearchState, Law]:
    """A search, and its best law, which must be close to the values without noise and short."""
    sample, clean = (TASKS[task].sample(1000, seed=0, noise=size) for size in (noise, 0.0))
    found = search(new_search(sample.x, sample.y))
    best = min(found.laws, key=lambda law: law.bits)
    assert best.formula is not None
    columns = dict(zip(best.variables, clean.x.unbind(1), strict=True))
    values = evaluate_expression(best.formula, columns, clean.y).reshape(-1, 1)
    assert float((values - clean.y).square().mean().sqrt()) < 0.2 * noise * float(clean.y.square().mean().sqrt())
    assert best.complexity <= 17
    return found, best


@pytest.mark.parametrize(
    "task",
    [
        "I.12.11",  # 1 + a sin(theta): a sum of products that no reduction leads to
        "II.6.15a",  # c sqrt(a^2 + b^2): a function of a/b, labels divided by bc, whose errors differ
        "III.17.37",  # beta (1 + alpha cos(theta)): polynomials of three columns do not come near the noise
    ],
)
def test_laws_in_noise_are_found_by_the_first_steps(task: str) -> None:
    best_in_noise(task, 0.01)


@pytest.mark.parametrize("task", ["I.30.3", "I.50.26"])
def test_noise_that_polynomials_do_not_see_is_what_a_law_and_curves_both_miss(task: str) -> None:
    found, best = best_in_noise(task, 0.001)
    noise = found.noise
    assert 0 < noise.inferred < 0.5 * noise.relative_polynomial_error
    assert best.rmse / float(found.task.root.y.std()) == pytest.approx(noise.inferred, rel=0.25)
    assert found.step == "products"  # no further steps are needed


def test_what_was_found_when_the_time_is_up_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.linspace(1, 2, 100, dtype=torch.float64)[:, None]
    one, over = new_search(x, x.exp().sin()), []
    one.task = replace(one.task, late=lambda: bool(over))

    def slow(*data: Any, **options: Any) -> list[CurveFormula]:
        over.append(True)
        return curve_formulas(*data, **{**options, "stop": lambda: False})

    monkeypatch.setattr(curve_steps, "curve_formulas", slow)
    assert [law.settled for law in search(one).laws] == [True]


def test_noise_that_is_given_is_the_noise_but_not_that_of_a_part() -> None:
    sample = TASKS["III.17.37"].sample(300, seed=0, noise=0.01)
    several = []
    for use_networks, given in ((True, 0.5), (True, None), (False, 0.5)):
        one = search(new_search(sample.x, sample.y, given, use_networks, late=True))
        several.append(one.noise.level * float(one.task.root.y.std()))
    assert several[0] == pytest.approx(0.5) and several[1] == several[2] != pytest.approx(0.5)


@pytest.mark.parametrize("columns", [0, 2])
def test_of_labels_that_nothing_tells_about_the_mean_is_found(columns: int) -> None:
    x = torch.rand(30, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.full((30, 1), 2.5, dtype=torch.float64)
    y[2] += 0.0 if columns else 1.0  # a row that is held out, where there is no column
    found = search(new_search(x, y))
    assert [law.formula for law in found.laws] == [sympy.Rational(5, 2)]


@pytest.mark.parametrize("count", [3, 5, 30])
def test_without_samples_that_are_held_out_nothing_fails(count: int) -> None:
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (x[:, 0] * torch.sin(x[:, 1]))[:, None]
    state = new_search(x, y, use_networks=True, looks=60)
    root = replace(state.task.root, x=x, y=y, held_x=x[:0], held_y=y[:0])
    state.task = replace(state.task, root=root, evaluator=replace(state.task.evaluator, root=root))
    assert all(law.formula is not None for law in search(state).laws)


def test_the_table_has_the_fast_steps_first_and_they_take_views_that_exist() -> None:
    assert {step.views for step in SEARCH_STEPS} <= set(ViewGroups._fields)
    conditions = [step.condition == "with networks" for step in SEARCH_STEPS]
    assert conditions == sorted(conditions) and SEARCH_STEPS[0].name == "power products" and SEARCH_STEPS[-2].name == "networks"


@pytest.mark.parametrize("doubtful", [False, True])
def test_steps_run_in_order_and_under_their_conditions_and_a_settled_law_ends_the_search(
    doubtful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = 2 * torch.rand(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    y = x[:, :1] * x[:, 1:]  # a polynomial
    if doubtful:
        y = torch.exp(2 * y) + x[:, :1] + 3
    ran: list[tuple[str, int]] = []

    def step(name: str, settles: bool = False, **options: Any) -> SearchStep:
        def function(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
            ran.append((name, len(views)))
            yield Proposal(None, "no candidate")
            law = state.task.evaluator.candidate(sympy.Integer(1), 1.0)
            assert law is not None
            yield Proposal(replace(law, settled=settles), "a candidate")

        return SearchStep(name, function, **options)

    table = [
        step("first", views="root"), step("in noise", views="near", condition="if noise is doubtful"),
        step("slow", views="none", condition="with networks"), step("last", settles=True, views="root"), step("never", views="root"),
    ]  # fmt: skip
    monkeypatch.setattr(module, "SEARCH_STEPS", table)
    for use_networks, expected in ((False, ["first", "last"]), (True, ["first", "slow", "last"])):
        ran.clear()
        state = search(new_search(x, y, use_networks=use_networks))
        assert [name for name, _ in ran if name != "in noise"] == expected and state.settled and state.step == "last"
        assert ("in noise" in dict(ran)) == state.noise.doubtful == doubtful and dict(ran).get("slow", 0) == 0 and dict(ran)["first"] == 1
        assert len(state.laws) == len(ran)  # candidates that are None are not kept


def test_candidates_found_before_an_interrupt_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    state = new_search(x, (x[:, :1] * x[:, 1:]).sin())

    def interrupted(state: SearchState, views: Sequence[View]) -> Iterator[Proposal]:
        yield Proposal(state.task.evaluator.candidate(sympy.Integer(1), 1.0), "a candidate")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "SEARCH_STEPS", [SearchStep("interrupted", interrupted, "root")])
    with pytest.raises(KeyboardInterrupt):
        search(state)
    assert len(state.laws) == 1
