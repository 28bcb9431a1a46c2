"""The noise of the labels: estimated, given, or inferred from a sum of curves, and the weights of the errors."""

from dataclasses import replace

import pytest
import sympy
import torch

from kan.discovery.laws.candidates import Law
from kan.discovery.laws.noise import MAX_INFORMATIVE_ERROR, MIN_NOISE, NoiseEstimate, error_weights, estimated_noise
from kan.discovery.reduction.views import View, symbols_of

X = torch.linspace(1, 2, 50, dtype=torch.float64)[:, None]
ROOT = View(X, 10 * X, X[:0], X[:0], symbols_of("x", X), lambda e: e)


def law(rmse: float, held_out: float | None = None) -> Law:
    return Law(sympy.Integer(1), "approximate", rmse, rmse if held_out is None else held_out, 0.0, 1, (), 0.0)


def test_the_least_error_of_polynomials_is_the_noise_where_one_of_nearly_that_error_shows_it() -> None:
    deviation = float(ROOT.y.std())
    seen, seen_nearby, seen_elsewhere = [(0.5, False), (0.1, True)], [(0.1, False), (0.105, True)], [(0.1, False), (0.2, True)]
    for errors, visible in ((seen, True), (seen_nearby, True), (seen_elsewhere, False)):
        noise = estimated_noise(ROOT, errors, None)
        assert noise.polynomial_error == 0.1 and noise.visible == visible and noise.deviation == deviation
        assert noise.level == (pytest.approx(0.1 / deviation) if visible else 0.0) and noise.doubtful != visible
    given = estimated_noise(ROOT, [(0.1, False)], 0.7)
    assert given.visible and given.level == pytest.approx(0.7 / deviation) and not given.doubtful


def test_tiny_and_huge_errors_of_polynomials_are_no_doubtful_noise() -> None:
    assert not NoiseEstimate(1.0, 0.5 * MIN_NOISE).doubtful and not NoiseEstimate(1.0, 2 * MAX_INFORMATIVE_ERROR).doubtful


def test_a_law_explains_the_data_if_its_error_is_the_noise_on_fitted_and_held_out_rows() -> None:
    noise = NoiseEstimate(2.0, 0.1, True)
    assert noise.explains([law(1.0), law(0.105)]) and not noise.explains([law(0.105, 0.2)]) and not noise.explains([])
    assert not replace(noise, visible=False).explains([law(0.05)])  # no noise is known
    assert not NoiseEstimate(2.0, 1.0, True).explains([law(0.5)])  # polynomials approximate nothing
    inferred = NoiseEstimate(2.0, 0.1, False, inferred=0.01)
    assert inferred.explains([law(0.021)]) and not inferred.explains([law(0.03)])


def test_an_error_that_a_law_and_a_sum_of_curves_share_is_noise_if_polynomials_have_a_larger_one() -> None:
    noise = NoiseEstimate(2.0, 0.2, False)
    assert noise.after(0.01, [law(0.0205)]).inferred == 0.01
    for laws in ([], [law(0.01)], [law(0.03)], [law(0.0205, 0.03)]):  # none, much smaller, larger, larger on held-out rows
        assert noise.after(0.01, laws) is noise
    assert noise.after(0.09, [law(0.18)]).inferred == 0.09
    assert replace(noise, visible=True).after(0.09, [law(0.18)]).inferred == 0.0
    assert noise.after(0.11, [law(0.22)]).inferred == 0.0
    assert noise.max_sum_error == pytest.approx(0.05) and NoiseEstimate(1.0, 0.01).max_sum_error == pytest.approx(0.007)


def test_weights_make_errors_relative_to_the_labels_of_the_search() -> None:
    assert error_weights(ROOT, 0.0, 4.0) is None
    equal = error_weights(ROOT, 0.1, 4.0)
    assert equal is not None and torch.equal(equal, torch.full((50,), 0.25, dtype=torch.float64))
    weights = error_weights(replace(ROOT, weights=X[:, 0]), 0.1, 4.0)
    assert weights is not None and torch.equal(weights, X[:, 0] / 4)
