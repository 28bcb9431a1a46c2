"""Derivatives of a model at samples, each computed once, and groups of variables."""

import pytest
import torch

from kan.analysis.probe import Probe
from tests.data import proportions

pytestmark = pytest.mark.usefixtures("float64")


def model(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 0] * x[:, 1] ** 2 + x[:, 2])[:, None]


def test_gradients_and_second_derivatives_are_those_of_the_model() -> None:
    x = proportions(6, 3)
    probe = Probe(model, x)
    a, b, _ = x.T
    torch.testing.assert_close(probe.gradient, torch.stack([b**2, 2 * a * b, torch.ones_like(a)], dim=1))
    hessian = torch.zeros(6, 3, 3)
    hessian[:, 0, 1] = hessian[:, 1, 0] = 2 * b
    hessian[:, 1, 1] = 2 * a
    torch.testing.assert_close(probe.hessian, hessian)
    assert probe.gradient is probe.gradient and probe.size == 3
    torch.testing.assert_close(probe.spread, x.std(dim=0))


def test_the_model_is_evaluated_once_for_each_derivative() -> None:
    calls = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return model(x)

    probe = Probe(counted, proportions(6, 3))
    for _ in range(3):
        assert probe.gradient.shape == (6, 3)
    assert len(calls) == 1


def test_groups_have_no_negative_indices_and_no_variable_twice() -> None:
    probe = Probe(model, proportions(6, 3))
    assert probe.groups([[-1], (0, 1)]) == [[2], [0, 1]]
    with pytest.raises(ValueError, match=r"may be named once only; got \[\[0, 2\], \[-1\]\]"):
        probe.groups([[0, 2], [-1]])
    with pytest.raises(IndexError, match="variable"):
        probe.groups([[3]])


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[1.0, 2.0]], TypeError, "got list"),
        (torch.ones(3, 2, dtype=torch.int64), TypeError, "got torch.int64"),
        (torch.ones(1, 2), ValueError, r"at least two samples; got \(1, 2\)"),
        (torch.ones(4), ValueError, r"got \(4,\)"),
    ],
)
def test_samples_that_are_none(x: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Probe(model, x)  # type: ignore[arg-type]


def test_a_model_of_two_outputs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the shape \(6, 1\) or \(6,\); got \(6, 3\)"):
        _ = Probe(lambda x: x, proportions(6, 3)).gradient
