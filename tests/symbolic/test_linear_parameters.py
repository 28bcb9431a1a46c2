"""The linear parameters of a fit: c, d and R^2 on all samples, in bounded memory."""

import pytest
import torch
from torch import Tensor

from kan.symbolic import SymbolicFunction, fit_affine, linear_parameters, lookup
from kan.symbolic.linear_parameters import SampledCurves, fit_linear_parameters, subsample

pytestmark = pytest.mark.filterwarnings("error")


def sample(n: int = 400, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, generator=generator, dtype=torch.float64) * 2 - 1


def test_c_d_and_r2_are_those_of_least_squares() -> None:
    x = sample()
    y = torch.exp(x) + 0.1 * sample(seed=1)
    a, b = torch.tensor([2.0], dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    affine, deficit = fit_linear_parameters(lookup("tanh"), SampledCurves.of(x.mT, y.mT), a, b)
    design = torch.cat([torch.tanh(2 * x + 0.3), torch.ones_like(x)], 1)
    solution, residual = torch.linalg.lstsq(design, y, driver="gelsd")[:2]
    torch.testing.assert_close(affine[0], torch.cat([a, b, solution[:, 0]]), rtol=1e-12, atol=0)
    torch.testing.assert_close(deficit, residual / (y - y.mean()).square().sum(), rtol=1e-10, atol=0)


def test_a_constant_curve_and_a_function_that_is_not_finite() -> None:
    x = sample()
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    affine, deficit = fit_linear_parameters(lookup("x"), SampledCurves.of(x.mT, torch.full_like(x, 3.0).mT), one, zero)
    assert affine[0].tolist() == [1, 0, 0, 3] and float(deficit) == 1
    affine, deficit = fit_linear_parameters(lookup("log"), SampledCurves.of(x.mT, x.mT), one, zero)
    assert affine[0, :3].tolist() == [0, 0.5, 0] and float(deficit) == 1


def test_a_subsample_is_the_same_at_every_call_and_has_both_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_parameters, "SEARCH_SAMPLES", 100)
    x = sample(1000).mT
    few, values = subsample(x, x**2)
    assert few.shape == (1, 102) and torch.equal(values, few**2)
    assert (few.min(), few.max()) == (x.min(), x.max())
    assert torch.equal(few, subsample(x, x**2)[0])
    assert subsample(few[:, :50], few[:, :50])[0].shape == (1, 50)


def test_memory_does_not_grow_with_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    # the largest tensor a function is asked for, on samples a hundred times as many
    monkeypatch.setattr(linear_parameters, "SUM_SAMPLES", 2**14)
    monkeypatch.setattr(linear_parameters, "SEARCH_SAMPLES", 2**12)
    largest = {}
    for n in (20_000, 400_000):
        sizes: list[int] = []

        def spy(u: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(u.numel())
            return torch.tanh(u)

        x = sample(n)
        row = lookup("tanh")
        fit = fit_affine(x, torch.tanh(3 * x), [SymbolicFunction("spy", spy, *tuple(row)[1:], row.symmetries)])  # type: ignore[arg-type]
        largest[n] = max(sizes)
        assert fit.deficit.item() < 1e-18
    assert largest[400_000] == largest[20_000]
