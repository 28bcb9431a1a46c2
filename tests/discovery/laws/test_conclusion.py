"""What `kan.discover` says in the end, on data that are not what they seem."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
import torch

import kan
from kan.discovery.discover import Discovery, discover
from kan.discovery.laws.verdict import VERDICTS

RANDOM = np.random.default_rng


def box(rows: int, columns: int, low: float = 1.0, high: float = 2.0) -> np.ndarray:
    return RANDOM(0).uniform(low, high, (rows, columns))


def found_in(x: np.ndarray, y: np.ndarray, seconds: float = 4.0, **options: Any) -> Discovery:
    return kan.discover(x, y, time_limit=seconds, progress=False, **options)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (box(300, 1), 1.7e9 + 0.1 * RANDOM(1).normal(size=300)),  # a time stamp with jitter
        (np.repeat(np.linspace(1, 2, 8), 10)[:, None], np.repeat(RANDOM(2).normal(size=8), 10)),
        (np.arange(1.0, 6.0)[:, None].repeat(4, 0), np.repeat([2.0, 3.0, 5.0, 7.0, 11.0], 4)),
        (box(300, 1, -1.7, 1.7), np.minimum(box(300, 1, -1.7, 1.7)[:, 0] ** 2, 2.5)),
        (box(300, 1, 0.0, 5.0), np.floor(box(300, 1, 0.0, 5.0)[:, 0])),
        (box(300, 1, 0.0, 1.0), np.exp(60 * box(300, 1, 0.0, 1.0)[:, 0]) + 5 * box(300, 1, 0.0, 1.0)[:, 0] ** 3),
        (300 + 0.05 * box(300, 1, 0.0, 1.0), 1 / np.expm1(1000 / (300 + 0.05 * box(300, 1, 0.0, 1.0)[:, 0]))),
        (box(300, 1, -1.0, 1.0), np.maximum(box(300, 1, -1.0, 1.0)[:, 0], 0)),
    ],
    ids=["time stamp", "eight levels", "primes", "clipped", "floor", "decades", "narrow", "kink"],
)
def test_what_has_no_ground_is_not_exact(x: np.ndarray, y: np.ndarray) -> None:
    found = found_in(x, y)
    assert len(found) > 0 and all(law.verdict != "exact" for law in found) and found.stopped != "exact"


def test_a_small_signal_far_from_zero_is_found() -> None:
    x = box(300, 2, 0.0, 1.0)
    law = found_in(x, 1e7 + 1e-4 * np.sin(6 * x[:, 0]) * x[:, 1], 20)[0]
    assert law.verdict == "exact" and law.formula.has(sympy.sin) and len(law.formula.free_symbols) == 2


def test_a_noise_that_is_larger_than_the_law_hides_it() -> None:
    x = box(300, 2, 0.0, 1.0)
    found = found_in(x, 0.3 * np.sin(3 * x[:, 0]) * x[:, 1] + RANDOM(1).normal(size=300), noise=1.0)
    assert found[0].verdict == "none" and not found[0].formula.free_symbols and 0.8 < found.noise < 1.2


@pytest.mark.parametrize("value", [-999.0, 9.96921e36])
def test_fill_values_are_named_and_count_as_rows(value: float) -> None:
    x = box(300, 2)
    y = x[:, 0] * x[:, 1]
    y[:30] = value
    with pytest.warns(UserWarning, match="y = .* in 30 row.s.*look like fill values") as caught:
        law = found_in(x, y)[0]
    assert {one.filename for one in caught} == {__file__}  # the line of the user's call is named
    assert str(law.formula) == "x_1*x_2" and law.verdict != "exact" and law.explained == pytest.approx(0.9)
    assert "90 % of the rows to round-off" in str(law)


@pytest.mark.parametrize(("count", "verdict"), [(1, "exact"), (6, "approximate")])
def test_outliers_do_not_hide_the_law(count: int, verdict: str) -> None:
    x = box(300, 2)
    y = x[:, 0] * x[:, 1] ** 2
    y[7 : 7 + count] += 1.0 + RANDOM(3).random(count)
    law = found_in(x, y, 20)[0]
    assert str(law.formula) == "x_1*x_2**2" and law.verdict == verdict and law.explained == pytest.approx(1 - count / 300)


def test_a_wrong_law_in_noise_says_how_wrong_it_is() -> None:
    x = RANDOM(0).uniform(0.5, 3, (500, 2))
    y = np.exp(-x[:, 0]) * np.cos(x[:, 1])
    found = found_in(x, y + 0.01 * np.std(y) * RANDOM(1).normal(size=500), 45, variables=["length", "gravity"])
    assert str(found[0].formula) == "exp(-length)*cos(gravity)" and found[0].verdict == "within noise"
    wrong = [law for law in found if law.verdict == "approximate"]
    assert wrong and all(law.excess > 1 and "the noise" in str(law) for law in wrong)


@pytest.mark.parametrize("labels", [lambda r: r.normal(size=200), lambda r: r.integers(0, 2, 200) * 1.0, lambda r: r.standard_cauchy(200)])
def test_of_noise_nothing_is_said(labels: Callable[[np.random.Generator], np.ndarray]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values of a wide distribution that stand alone
        found = found_in(box(200, 3), labels(RANDOM(5)), 3)
    assert found[0].verdict in ("none", "approximate") and not any(law.verdict in VERDICTS[:3] for law in found)


def test_there_is_always_a_candidate() -> None:
    x = torch.rand(300, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x @ torch.arange(10.0).double() + torch.sin(9 * x[:, 0]) * x[:, 1]
    found = discover(x, y, time_limit=0.01, progress=False)
    assert [law.verdict for law in found] == ["approximate", "approximate", "spline"] and found.stopped == "time limit"
    mean, line, network = sorted(found, key=lambda law: -law.held_out)
    assert mean.formula is not None and not mean.formula.free_symbols
    assert line.formula is not None and len(line.formula.free_symbols) == 10 and network.network.width[0][0] == 10
    assert mean.excess > line.excess > 1


def test_candidates_are_in_the_order_of_their_verdicts() -> None:
    x = box(300, 1)
    found = found_in(x, np.exp(x[:, 0]) + 0.01 * RANDOM(1).normal(size=300), 10)
    ranks = [(VERDICTS.index(law.verdict), law.bits) for law in found]
    assert ranks == sorted(ranks) and found[0].verdict == "within noise"
