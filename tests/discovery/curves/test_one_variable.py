"""Laws of one variable are found from their samples."""

from __future__ import annotations

import itertools
import math

import pytest
import sympy
import torch
from torch import Tensor

from kan.discovery.curves.candidates import CandidateBatch, CurveCandidates, resample_indices
from kan.discovery.curves.one_variable import CurveFormula, curve_formulas
from kan.discovery.curves.pairs import COMBINATIONS, pair_formulas
from kan.discovery.curves.rational import rational_formulas
from kan.symbolic.evaluation import evaluate_expression
from tests.data import uniform

z = sympy.Symbol("z")


def values(formula: str | sympy.Expr, x: Tensor) -> Tensor:
    return evaluate_expression(sympy.sympify(formula), {z: x}, x).expand(len(x))


def size(y: Tensor) -> float:
    return float(y.square().mean().sqrt())


EXACT = [
    ("log(z)", 0.1, 5), ("1-cos(z)", 0, 6), ("acos(z)", -0.9, 0.9), ("exp(-z)-1", -1, 3),  # one edge
    ("1/(exp(z)-1)", 0.03, 25), ("sqrt(1-z**2)", 0.05, 0.7), ("1/sqrt(1-z**2)", 0.05, 0.9), ("sqrt(1+2*z**2)", -2, 2),  # changed labels
    ("z*tanh(z)", -3, 3), ("z**3/(exp(z)-1)", 0.1, 12), ("z**2/(1-z**2)**2", 0.1, 0.8), ("z*sqrt(z**2-9.87)", 3.2, 8),  # and powers
    ("4*sin(z/2)**2/z**2", 0.1, 12), ("0.8*exp(-0.7*z)*sin(2.4*z)", -2, 2),
    ("(1-z**2)/(1+z/2)", -1, 3), ("1/(1+z+z**2/3)", 0, 4), ("(1+z)/sqrt(1-z**2)", 0.05, 0.9), ("sqrt(z)+z**1.5", 0.1, 4),  # quotients
    ("z**6-z**2+3", -2, 2),
    ("tanh(1.6*sin(2.2*z))", -2, 2), ("exp(0.4*z)+tanh(2*z)", -2, 2), ("log(1.3*z+0.65)*cos(1.4*z-1)", 1, 8),  # pairs
]  # fmt: skip


@pytest.mark.parametrize(("formula", "low", "high"), EXACT)
def test_finds_exact_laws(formula: str, low: float, high: float) -> None:
    x = uniform(300, low=low, high=high, seed=1)
    y = values(formula, x)
    best = curve_formulas(x, y, z)[0]
    assert best.rmse <= 1e-12 * size(y)
    beyond = torch.linspace(low, high, 77, dtype=torch.float64)  # other samples
    torch.testing.assert_close(values(best.formula, beyond), values(formula, beyond), rtol=1e-9, atol=1e-9 * size(y))


@pytest.mark.parametrize(
    ("formula", "low", "high", "parts"),
    [
        ("1.3*sin(2*z+0.4)", -2, 2, {sympy.sin}),
        ("sqrt(1-z**2)", 0.05, 0.9, {sympy.Pow}),
        ("z/(exp(z)-1)", 0.1, 8, {sympy.exp}),
        ("z/(1+z**2)", -3, 3, {sympy.Pow}),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_finds_laws_in_noise(formula: str, low: float, high: float, parts: set[type], known: bool) -> None:
    x = uniform(800, low=low, high=high, seed=1)
    y = values(formula, x)
    noise = 0.01 * size(y)
    seen = y + noise * torch.randn(len(x), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    best = curve_formulas(x, seen, z, noise=noise if known else None)[0]
    assert size(values(best.formula, x) - y) < 0.15 * noise
    assert {type(node) for node in best.formula.atoms(sympy.Function)} <= parts
    assert best.rmse == pytest.approx(noise, rel=0.1)


@pytest.mark.parametrize(("along", "upward"), list(itertools.product([1e-8, 1.0, 1e8], [1e-8, 1.0, 1e8])))
def test_units_do_not_matter(along: float, upward: float) -> None:
    x = uniform(300, low=0.5, high=3, seed=1)
    y = x / (1 + x**2)
    assert curve_formulas(along * x, upward * y, z)[0].rmse <= 1e-12 * upward * size(y)


@pytest.mark.parametrize("level", [0.0, 3.5, -1e9])
def test_a_constant_is_a_constant(level: float) -> None:
    x = uniform(50, low=-1, high=1, seed=1)
    (found,) = curve_formulas(x, torch.full_like(x, level), z)
    assert found.formula.is_number and float(found.formula) == level and found.rmse == 0


def test_one_place_only() -> None:
    assert float(curve_formulas(torch.ones(20), torch.linspace(0, 1, 20), z)[0].formula) == pytest.approx(0.5)


def test_few_samples() -> None:
    x = uniform(20, low=0.2, high=2, seed=1)
    assert curve_formulas(x, x / (torch.exp(x) - 1), z)[0].rmse < 1e-12
    for count in range(1, 6):
        assert len(curve_formulas(x[:count], x[:count].sin(), z)) >= 1


def test_of_exact_formulas_the_simplest_is_the_first() -> None:
    x = uniform(300, low=0.5, high=3, seed=1)
    found = curve_formulas(x, 1 / (1 + x), z)
    assert found[0].formula == 1 / (1 + z)
    assert [curve.bits for curve in found] == sorted(curve.bits for curve in found)
    assert all(isinstance(curve, CurveFormula) for curve in found)


def test_an_approximation_is_not_exact() -> None:
    x = uniform(300, low=0.3, high=2, seed=1)
    y = torch.atan(0.37 * x - 1.51)  # but for round-off a quotient of degrees 4 and 4
    inner = 1.24 / ((1.65 * y - 0.68) ** 2 + 1)
    found = CurveCandidates(x.sort().values, inner[x.argsort()], z, None, lambda: False, True)
    found.add(CandidateBatch(rational_formulas(x, inner, z, 8), 1e-9))
    assert found.best()[0].rmse < 1e-10 * size(inner) and not found.exact and not found.explained


def test_a_library_is_all_that_there_is() -> None:
    x = uniform(800, low=-2, high=2, seed=1)
    for curve in curve_formulas(x, torch.tanh(1.6 * torch.sin(2.2 * x)), z, library=["x", "sin", "tanh"]):
        assert {type(node) for node in curve.formula.atoms(sympy.Function)} <= {sympy.sin, sympy.tanh}
        assert not curve.formula.atoms(sympy.Pow)
    assert curve_formulas(x, torch.tanh(1.6 * torch.sin(2.2 * x)), z, library=["x", "sin", "tanh"])[0].rmse < 1e-12


def test_stop_is_asked_between_batches() -> None:
    x = uniform(800, low=-2, high=2, seed=1)
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 1

    found = curve_formulas(x, torch.tanh(1.6 * torch.sin(2.2 * x)), z, stop=stop)
    assert len(asked) <= 6 and len(found) >= 1


def test_the_target_error_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    x = uniform(200, low=-2, high=2, seed=1)
    batches: list[int] = []
    add = CurveCandidates.add

    def watched(self: CurveCandidates, batch: CandidateBatch) -> None:
        batches.append(len(batch.formulas))
        add(self, batch)

    monkeypatch.setattr(CurveCandidates, "add", watched)
    counts, errors = [], []
    for target in (0.0, 1e-20, 0.5, 10.0):
        batches.clear()
        found = curve_formulas(x, torch.tanh(1.6 * torch.sin(2.2 * x)), z, library=["x", "sin", "tanh"], noise=1e-3, target_error=target)
        counts.append(len(batches))
        errors.append(min(curve.rmse for curve in found))
    assert counts == [3, 3, 2, 2]  # a constant, then one function, then two
    assert max(errors[:2]) < 1e-3 < errors[2] <= 0.5


def test_the_least_error_is_that_of_the_nearest_formula() -> None:
    x = uniform(50, low=-1, high=1, seed=1).sort().values
    found = CurveCandidates(x, torch.sin(x), z, None, lambda: False, True)
    assert found.smallest_error == math.inf
    found.add(CandidateBatch([sympy.Float(0.1), 0.9 * z], math.inf))
    assert found.smallest_error == min(curve.rmse for curve in found.best()) < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_a_wave_that_another_function_hides(seed: int) -> None:
    x = 3 * torch.rand(256, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.5
    y = torch.tanh(2 * x) / 4 + 0.4 * torch.exp(-0.65 * x) * torch.sin(2.35 * x)
    assert size(values(pair_formulas(x, y, z, "wave")[0], x) - y) < 1e-10


def test_the_same_samples_give_the_same_formulas_and_stay_as_they_are() -> None:
    x = uniform(300, low=-2, high=2, seed=1)
    y = torch.sin(torch.exp(0.7 * x))
    before = x.clone(), y.clone()
    first, second = curve_formulas(x, y, z), curve_formulas(x, y, z)
    assert first == second
    assert torch.equal(before[0], x) and torch.equal(before[1], y)
    assert curve_formulas(x.flip(0), y.flip(0), z) == first


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3), torch.zeros(4), "as many samples, at least one; got 3 and 4"),
        (torch.zeros(0), torch.zeros(0), "at least one; got 0 and 0"),
        (torch.tensor([0.0, torch.nan]), torch.zeros(2), "must be finite"),
    ],
)
def test_says_what_is_wrong(x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curve_formulas(x, y, z)


@pytest.mark.parametrize("kind", COMBINATIONS)
def test_pairs(kind: str) -> None:
    x = uniform(300, low=-1, high=2, seed=1)
    first, second = torch.sin(2.3 * x + 0.4), torch.exp(-0.8 * x)
    y = {
        "composition": torch.exp(0.7 * first),
        "sum": 1.2 * first - second,
        "product": first * second,
        "wave": second * first + 0.3 * torch.tanh(2 * x),
    }[kind]
    formulas = pair_formulas(x, y, z, kind)
    assert size(values(formulas[0], x) - y) < 1e-8


@pytest.mark.parametrize(("above", "below"), [(1, 1), (0, 2), (3, 2), (4, 4)])
def test_quotients_are_identified(above: int, below: int) -> None:
    x = uniform(200, low=-1, high=1, seed=1)
    p, q = ([1.0 + 0.5 * j * (-1) ** j for j in range(n + 1)] for n in (above, below))
    y = sum(c * x**j for j, c in enumerate(p)) / (4 * sum(abs(c) for c in q) + sum(c * x**j for j, c in enumerate(q)))
    formula = rational_formulas(x, torch.as_tensor(y), z, 8)[0]
    top, bottom = sympy.fraction(sympy.together(formula))
    assert sympy.degree(top, z) == above and sympy.degree(bottom, z) == below
    assert size(values(formula, x) - y) < 1e-10 * size(torch.as_tensor(y))


def test_quotients_drop_what_is_zero() -> None:
    x = uniform(200, low=0.5, high=2, seed=1)
    assert not rational_formulas(x, 1 / (1 + 2 * x**2), z, 4)[0].coeff(z)
    root = rational_formulas(x, -torch.sqrt((1 + x) / (3 - x)), z, 4, squared=True)[0]
    assert size(values(root, x) + torch.sqrt((1 + x) / (3 - x))) < 1e-11
    assert rational_formulas(x, x - 1, z, 4, squared=True) == []


def test_samples_are_repeated_in_proportion_to_their_weights() -> None:
    weights = torch.tensor([0.0, 3.0, 1.0, 0.0, 4.0])
    assert resample_indices(weights.repeat_interleave(8)).div(8, rounding_mode="floor").bincount(minlength=5).tolist() == [0, 15, 5, 0, 20]


def test_labels_whose_errors_differ() -> None:
    x = uniform(800, low=0.2, high=8, seed=1)
    errors = 0.01 * torch.where(x > 3, 1000.0, 1.0)
    truth = torch.sqrt(1 + x**2)
    seen = truth + errors * torch.randn(len(x), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    best = curve_formulas(x, seen, z, weights=1 / errors)[0]
    assert best.rmse == pytest.approx(1, rel=0.1)  # in units of the errors
    near = x <= 3
    assert size(values(best.formula, x)[near] - truth[near]) < 0.003
    assert best.formula.atoms(sympy.Pow) and not best.formula.atoms(sympy.Function)
