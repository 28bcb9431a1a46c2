"""The rules for a solution, on pairs whose answer is known."""

import importlib
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy

from benchmarks import scoring
from kan.datasets.problem import Problem

x, y = sympy.symbols("x_1 x_2")
WAVE = Problem("wave", "2*a*sin(b) + 1", ("a", "b"), ((1, 2), (0, 3)))
GAUSSIAN = Problem("gaussian", "exp(-theta**2/(2*sigma**2))/sqrt(2*pi*sigma**2)", ("theta", "sigma"), ((-1, 1), (0.5, 2)))
RULES = ("srbench", "structure", "exact", "loose")


def solved(problem: Problem, formula: str) -> str:
    """Initials of the rules that hold, judged in this process."""
    given = {"name": problem.name, "formula": problem.formula, "variables": problem.variables, "ranges": problem.ranges}
    scores: dict[str, Any] = {}
    for stage in scoring.stages({"problem": given, "formula": formula, "samples": 300, "seed": 1}):
        scores.update(stage)
    found = scoring.verdicts(scores)
    return "".join({"srbench": "B", "structure": "S", "exact": "E", "loose": "L"}[rule] for rule in RULES if found[f"solved_{rule}"])


@pytest.mark.parametrize(
    ("formula", "rules"),
    [
        ("2*x_1*sin(x_2) + 1", "BSEL"),
        ("1.0000001 + 2.0000001*(x_1*sin((1.00000000*x_2)))", "BSEL"),
        ("4*x_1*sin(x_2/2)*cos(x_2/2) + 1", "BSEL"),  # the same, otherwise written
        ("2.0004*x_1*sin(x_2) + 1", "BSL"),  # the fourth digit: SRBench rounds it away
        ("2.004*x_1*sin(x_2) + 1", "SL"),  # the third: neither difference nor ratio is constant, but an affine map mends it
        ("2.004*x_1*sin(x_2) + 1.002", "BSL"),  # the ratio is 1.002
        ("2*x_1*sin(x_2) + 1.3", "BSL"),  # the difference is 0.3
        ("2*x_1*sin(1.0004*x_2) + 1", "BS"),  # inside a function no affine map helps, and new numbers do
        ("2*x_1*sin(1.01*x_2) + 1", "S"),
        ("2*x_1*sin(x_2) + 1 + 0.00001*x_1", "BSL"),  # a number that is fitted to nothing
        ("2*x_1*sin(x_2) + 1 + 0.01*x_1", "S"),
        ("2*x_1*cos(x_2 - 1.5707963267949) + 1", "SEL"),
        ("2*x_1*cos(x_2) + 1", ""),
        ("2*x_1*(x_2 - x_2**3/6 + x_2**5/120 - x_2**7/5040 + x_2**9/362880) + 1", ""),
        ("0", ""),
    ],
)
def test_rules(formula: str, rules: str) -> None:
    assert solved(WAVE, formula) == rules


def test_a_fraction_is_a_number() -> None:
    decay = Problem("decay", "0.8*exp(-0.7*x)*sin(2.4*x)/sqrt(x)", ("x",), ((1, 2),))
    assert solved(decay, "4*exp(-7*x_1/10)*sin(12*x_1/5)/(5*sqrt(x_1))") == "BSEL"
    assert solved(decay, "4*exp(-7*x_1/10)*sin(12*x_1/5)/5") == ""
    assert str(scoring.decimal(sympy.sympify("2*x**(2/3)/5 + 3*y**2*sqrt(z/4)"))) == "0.4*x**(2/3) + 1.5*y**2*sqrt(z)"


def test_a_bloated_formula_has_no_right_structure() -> None:
    # Equal for positive x, and nothing tells the simplification that x is positive.
    bloated = "2*x_1*sin(x_2) + 1 + 3*(sqrt(x_1**2) - x_1)*(x_1 + x_2)**2"
    assert solved(WAVE, "2*sqrt(x_1**2)*sin(x_2) + 1") == "SEL"
    assert solved(WAVE, bloated) == "L"


def test_the_wider_box_catches_what_equals_the_truth_inside_only() -> None:
    kinked = Problem("line", "a + b", ("a", "b"), ((0, 1), (0, 1)))
    assert solved(kinked, "Abs(x_1) + x_2") == "L"
    assert "E" in solved(kinked, "x_1 + x_2")


def test_constants_of_the_truth_are_numbers() -> None:
    assert solved(GAUSSIAN, "0.3989422804014327*exp(-0.5*(x_1/x_2)**2)/sqrt(x_2**2)").endswith("SEL")
    assert solved(GAUSSIAN, "0.4*exp(-0.5*x_1**2/x_2**2)/x_2") == "SL"


def test_size() -> None:
    cases = {x: 1, x + y: 3, 2 * x + 1: 5, -x: 2, sympy.sin(2 * x): 4, sympy.sqrt(x): 2, 1 / x: 2, x**3: 3, x * y * 2.5: 5, sympy.pi * x: 3}
    assert {expression: scoring.size(expression) for expression in cases} == cases


def test_rounding() -> None:
    assert scoring.rounded(1.23456 * x + 0.00001 * y) == sympy.Float(1.235) * x
    assert scoring.rounded(sympy.pi * x) == sympy.Float(3.142) * x
    assert scoring.rounded(1.0001 * x + sympy.Rational(1, 7)) == x + sympy.Rational(1, 7)
    assert scoring.tidied(2.0000001 * x + 1e-9 + 0.123456789 * y) == 2 * x + sympy.Float(0.123457) * y


def test_fingerprints() -> None:
    columns = np.random.default_rng(0).uniform(0.5, 2, (2, 50))
    assert scoring.same_values(sympy.sin(x) ** 2, 1 - sympy.cos(x) ** 2, (x, y), columns)
    assert not scoring.same_values(sympy.sin(x), sympy.sin(x) + sympy.Float(1e-6) * y, (x, y), columns)
    assert not scoring.same_values(sympy.log(-x), sympy.log(-x), (x, y), columns)  # no values, so nothing is known


def test_values_where_there_are_none() -> None:
    values = scoring.evaluator(sympy.sqrt(x) + sympy.log(x), (x,))(np.array([-1.0, 0.0, 1.0]))
    assert np.isnan(values[0]) and values[1] == -math.inf and values[2] == 1
    assert scoring.evaluator(sympy.Integer(3), (x,))(np.zeros(2)).tolist() == [3, 3]
    assert scoring.normalised_error(np.arange(3.0), np.array([0, math.nan, 2])) == math.inf


def test_numbers_that_are_fitted() -> None:
    body, names, values = scoring.opened(1.5 * x**2 + sympy.exp(-x / 3) + x**2.5 + sympy.sqrt(x) - 1)
    assert sorted(values) == pytest.approx([-1 / 3, 1.5, 2.5]) and len(names) == 3
    assert body.has(x**2) and body.has(sympy.sqrt(x))


# Judging in a process of its own


def test_judged_in_a_process_of_its_own() -> None:
    scores = scoring.judged(WAVE, "2*x_1*sin(x_2) + 1", samples=300, seed=1)
    assert scores["judging"] == "done" and scores["solved_exact"] and scores["solved_srbench"]
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_a_judge_that_hangs_is_ended_and_what_it_found_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import json, time\nprint(json.dumps({'size_of_truth': 3}), flush=True)\nprint('{\"size', end='', flush=True)\ntime.sleep(60)\n"
    )
    monkeypatch.setattr(scoring, "__file__", str(slow))
    begun = time.monotonic()
    scores = scoring.judged(WAVE, "x_1", samples=10, seed=0, seconds=2)
    assert time.monotonic() - begun < 20
    assert scores["judging"] == "time-out" and scores["size_of_truth"] == 3 and not scores["solved_srbench"]


@pytest.mark.parametrize("formula", ["spline_0(x_1)", "x_3", "2*", "1/(x_1 - x_1)", "__import__('os')"])
def test_what_cannot_be_read_is_not_solved(formula: str) -> None:
    scores = scoring.judged(WAVE, formula, samples=50, seed=0)
    assert "Error" in scores["judging"] and not any(scores[f"solved_{rule}"] for rule in RULES)


# The harness


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(scoring.ROOT / "benchmarks"))
    return importlib.import_module("discovery")


def test_records_are_kept_once_and_found_again(harness: Any, tmp_path: Path) -> None:
    kept = harness.Kept(tmp_path / "results")
    run = harness.Run("kan27", WAVE, "operon", 0.0, 0, 20.0)
    said = {"candidates": [], "seconds": 1.0, "ended": "time-out"}
    assert not kept.has(run)
    for _ in range(2):
        kept.add(run, harness.record_of(run, said, {"cores": 2}))
    assert kept.has(run) and not kept.has(harness.Run("kan27", WAVE, "operon", 0.0, 1, 20.0))
    (path,) = (tmp_path / "results").iterdir()
    assert path.name == "kan27_operon_noise0_20s.json" and len(json.loads(path.read_text())["records"]) == 1


@pytest.mark.parametrize(
    ("verdict", "rule", "wrong", "wrong_in_noise"),
    [
        ("exact", None, True, False),
        ("exact", "exact", False, False),
        ("exact", "srbench", False, False),
        ("exact", "structure", True, False),
        ("approximate", None, False, False),
        ("within noise", None, False, True),
        ("within noise", "structure", False, False),
    ],
)
def test_claims_that_are_wrong(
    harness: Any, monkeypatch: pytest.MonkeyPatch, verdict: str, rule: str | None, wrong: bool, wrong_in_noise: bool
) -> None:
    monkeypatch.setattr(harness, "judged", lambda *arguments: {f"solved_{one}": one == rule for one in RULES})
    run = harness.Run("kan27", WAVE, "ours", 0.0, 0, 20.0)
    scores = harness.scores_of(run, {"candidates": [{"formula": "x_1", "verdict": verdict}]})
    assert scores["claimed_exact_but_wrong"] is wrong and scores["claimed_within_noise_but_wrong"] is wrong_in_noise


def test_the_page_has_every_problem(harness: Any, tmp_path: Path) -> None:
    kept = harness.Kept(tmp_path)
    scores = {
        **dict.fromkeys(["solved_srbench", "solved_structure", "solved_exact", "solved_loose"], False),
        "nrmse": 0.004,
        "accurate": True,
    }
    good = {**scores, "solved_exact": True, "solved_structure": True}
    wrong = {**scores, "claimed_exact_but_wrong": True}
    for problem, verdict in zip(harness.problems("kan27")[:3], (good, scores, wrong), strict=True):
        record = {"problem": problem.name, "seed": 0, "seconds": 3.0, "candidates": [{"formula": "x_1", "verdict": "exact"}]}
        kept.add(harness.Run("kan27", problem, "ours", 0.0, 0, 20.0), {**record, "scores": verdict, "environment": {"cores": 2}})
    page = harness.page(tmp_path)
    assert "| kan27 | 0 | 20 | kanonical | 3 | 1 | 1 | 0 | 0 | 3 | 1 | 0 | 3 |" in page
    for row in ("| I.6.2 | `exp(-theta**2/(2*sigma**2))/sqrt(2*pi*sigma**2)` | **ES** |", "| · 4e-03 |", "| · wrong |", "- cores 2"):
        assert row in page
