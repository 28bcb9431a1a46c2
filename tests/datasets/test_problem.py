"""Problems of symbolic regression: samples, noise and what cannot be sampled."""

import math

import pytest
import sympy
import torch

from kan.datasets.problem import Problem

RATIO = Problem("ratio", "a/b", ("a", "b"), ((0, 1), (2, 4)))


def test_samples_lie_in_the_ranges_and_on_the_formula() -> None:
    x, y, rejected = RATIO.sample(300, seed=3)
    assert x.shape == (300, 2) and y.shape == (300, 1) and x.dtype == torch.float64 and rejected == 0
    assert bool(((x >= torch.tensor([0.0, 2.0])) & (x <= torch.tensor([1.0, 4.0]))).all())
    assert x.amax(0) == pytest.approx([1, 4], abs=0.05) and x.amin(0) == pytest.approx([0, 2], abs=0.05)
    torch.testing.assert_close(y[:, 0], x[:, 0] / x[:, 1])


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    assert torch.equal(RATIO.sample(20, seed=1, noise=0.1).y, RATIO.sample(20, seed=1, noise=0.1).y)
    assert not torch.equal(RATIO.sample(20, seed=1).x, RATIO.sample(20, seed=2).x)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_relative_to_the_root_mean_square_of_the_values() -> None:
    problem = Problem("far from zero", "x + 100", ("x",), ((0, 1),))
    clean, noisy = problem.sample(20000, seed=0), problem.sample(20000, seed=0, noise=0.01)
    assert torch.equal(clean.x, noisy.x)
    assert float((noisy.y - clean.y).std()) == pytest.approx(0.01 * 100.5, rel=0.03)
    assert abs(float((noisy.y - clean.y).mean())) < 0.03


def test_points_without_a_value_are_drawn_again_and_counted() -> None:
    x, y, rejected = Problem("half", "sqrt(x)", ("x",), ((-1, 1),)).sample(1000)
    assert len(x) == len(y) == 1000 and bool(torch.isfinite(y).all()) and bool((x >= 0).all())
    assert 850 < rejected < 1150


def test_a_formula_without_values_is_told() -> None:
    with pytest.raises(ValueError, match=r"nowhere: log\(x\) has a finite real value at 0 of \d+ points only, with x in \(-2, -1\)"):
        Problem("nowhere", "log(x)", ("x",), ((-2, -1),)).sample(10)


@pytest.mark.parametrize(
    ("variables", "ranges", "sentence"),
    [
        (("x", "x"), ((0, 1), (0, 1)), "no variable twice; got the variables x, x"),
        (("x",), ((0, 1), (0, 1)), r"one range for each variable, .* and 2 range\(s\)"),
        (("x",), ((1, 1),), r"the range of x must be two finite numbers, low < high; got \(1, 1\)"),
        (("x",), ((0, math.inf),), "the range of x must be"),
    ],
)
def test_what_is_no_problem(variables: tuple[str, ...], ranges: tuple[tuple[float, float], ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Problem("wrong", "x", variables, ranges)


@pytest.mark.parametrize(("count", "noise"), [(0, 0), (5, -0.1), (5, math.nan)])
def test_what_cannot_be_sampled(count: int, noise: float) -> None:
    with pytest.raises(ValueError, match="expected a positive count and a finite noise of at least 0"):
        RATIO.sample(count, noise=noise)


def test_dtype_and_names() -> None:
    problem = Problem("wave", "sin(lambda_)", ("lambda_",), ((0, 1),))
    assert problem.sample(4, dtype=torch.float32).y.dtype == torch.float32
    assert problem.symbols() == (sympy.Symbol("lambda"),)


def test_functions_of_tensors() -> None:
    problem = Problem("own", "2*twice(x, y)", ("x", "y"), ((0, 1), (0, 1)), {"twice": lambda x, y: x + y})
    x, y, _ = problem.sample(7)
    torch.testing.assert_close(y[:, 0], 2 * x.sum(1))
    assert not problem.closed_form and RATIO.closed_form
    with pytest.raises(ValueError, match="functions Abs, .*, twice"):
        Problem("none", "thrice(x)", ("x",), ((0, 1),), {"twice": torch.add}).expression()
