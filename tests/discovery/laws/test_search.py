"""The steps of the search, on data whose law is known."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import sympy
import torch
from torch import Tensor

from kan.datasets.problem_sets import problems
from kan.discovery.curves.one_variable import CurveFormula, curve_formulas
from kan.discovery.laws import search as module
from kan.discovery.laws.candidates import Judge, Law
from kan.discovery.laws.search import Hunt
from kan.discovery.reduction.views import Stage, symbols_of
from kan.symbolic.evaluation import evaluate_expression

TASKS = {problem.name: problem for problem in problems("kan27")}


def hunt(x: Tensor, y: Tensor, noise: float | None = None, whole: bool = False, late: bool = False, looks: float = math.inf) -> Hunt:
    """Not whole: without networks and the steps after them, which would find some laws late."""
    held = torch.arange(len(x)) % 5 == 2
    root = Stage(x[~held], y[~held], x[held], y[held], symbols_of("x", x), lambda e: e)
    names = {symbol: sympy.Symbol(f"x_{i}") for i, symbol in enumerate(root.symbols, start=1)}
    count = itertools.count()

    def is_late() -> bool:
        return late or next(count) > looks

    judge = Judge(root, (root.held_x, root.held_y), names, float(y.square().mean().sqrt()), noise, is_late)
    return Hunt(root, judge, None, 0, is_late, lambda: 1e3, lambda step, best: None, whole=whole)


def best_in_noise(task: str, noise: float) -> tuple[Hunt, Law]:
    """A search, and its best law, which must be near the values without noise and short."""
    sample, clean = (TASKS[task].sample(1000, seed=0, noise=size) for size in (noise, 0.0))
    found = hunt(sample.x, sample.y)
    found.run()
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
    assert 0 < found.presumed < 0.5 * found.floor
    assert best.rmse / float(found.root.y.std()) == pytest.approx(found.presumed, rel=0.25)
    assert found.step == "products"  # nothing is looked for after that


def test_what_was_found_when_the_time_is_up_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.linspace(1, 2, 100, dtype=torch.float64)[:, None]
    one, over = hunt(x, x.exp().sin()), []
    one.late = lambda: bool(over)

    def slow(*data: Any, **options: Any) -> list[CurveFormula]:
        over.append(True)
        return curve_formulas(*data, **{**options, "stop": lambda: False})

    monkeypatch.setattr(module, "curve_formulas", slow)
    one.run()
    assert [law.settled for law in one.laws] == [True]


def test_noise_that_is_told_is_the_noise_but_not_that_of_a_part() -> None:
    sample = TASKS["III.17.37"].sample(300, seed=0, noise=0.01)
    several = []
    for whole, told in ((True, 0.5), (True, None), (False, 0.5)):
        one = hunt(sample.x, sample.y, told, whole, late=True)
        one.run()
        several.append(one.noise * float(one.root.y.std()))
    assert several[0] == pytest.approx(0.5) and several[1] == several[2] != pytest.approx(0.5)


@pytest.mark.parametrize("columns", [0, 2])
def test_of_labels_that_nothing_tells_about_the_mean_is_found(columns: int) -> None:
    x = torch.rand(30, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.full((30, 1), 2.5, dtype=torch.float64)
    y[2] += 0.0 if columns else 1.0  # a row that is held out, where there is no column
    found = hunt(x, y)
    found.run()
    assert [law.formula for law in found.laws] == [sympy.Rational(5, 2)]


@pytest.mark.parametrize("count", [3, 5, 30])
def test_without_samples_that_are_held_out_nothing_fails(count: int) -> None:
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (x[:, 0] * torch.sin(x[:, 1]))[:, None]
    found = hunt(x, y, whole=True, looks=60)
    found.root = replace(found.root, x=x, y=y, held_x=x[:0], held_y=y[:0])
    found.judge = replace(found.judge, root=found.root)
    found.run()
    assert all(law.formula is not None for law in found.laws)
