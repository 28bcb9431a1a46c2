"""Singularity-safe versions: finite, continuous, and equal to the function elsewhere."""

import math

import pytest
import torch

from kan.symbolic import SYMBOLIC_LIB
from kan.symbolic.singular import f_arctanh, f_inv, f_log, f_power1d5, f_sqrt, f_tan

pytestmark = pytest.mark.filterwarnings("error")

NAMES = list(SYMBOLIC_LIB)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("y_th", [10.0, 1000.0])
def test_singular_version_is_finite_with_finite_gradient(name: str, dtype: torch.dtype, y_th: float) -> None:
    fun = SYMBOLIC_LIB[name].singularity_fun
    t, _ = fun(torch.ones(1, dtype=dtype), y_th)
    threshold = t.item() if isinstance(t, torch.Tensor) else 0.5
    points = [0.0, threshold, 1.0, math.pi / 2, math.pi / 2 - threshold, 1.0001, 3.0, 1e5, 1e7]
    u = torch.tensor(points + [-p for p in points], dtype=dtype, requires_grad=True)
    for limit in (y_th, torch.tensor(y_th, dtype=torch.float64)):
        _, value = fun(u, limit)
        (gradient,) = torch.autograd.grad(value.sum(), u) if value.requires_grad else (torch.zeros(1),)
        assert value.dtype == dtype
        assert value.shape == u.shape
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("y_th", [2.0, 5.0])
def test_singular_version_is_continuous_and_equals_the_function_elsewhere(name: str, y_th: float) -> None:
    row = SYMBOLIC_LIB[name]
    t, _ = row.singularity_fun(torch.ones(1, dtype=torch.float64), y_th)
    if isinstance(t, torch.Tensor):
        edge = torch.stack([math.pi / 2 - t, math.pi / 2 + t] if name == "tan" else [t, -t])
        below, above = (row.singularity_fun(edge * (1 + shift), y_th)[1] for shift in (-1e-12, 1e-12))
        torch.testing.assert_close(below, above, rtol=0, atol=1e-6)
    u = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    exact, value = row.torch_fun(u), row.singularity_fun(u, y_th)[1]
    # sqrt is the one whose continuation begins where the function is small
    same = exact.isfinite() & (exact.abs() < y_th) & ((u > y_th**-2) | (name not in {"sqrt", "x^0.5"}))
    torch.testing.assert_close(value[same], exact[same], rtol=1e-12, atol=1e-12)


def test_sqrt_is_a_line_of_slope_y_th_up_to_the_threshold() -> None:
    t, value = f_sqrt(torch.tensor([0.005, 0.01, -0.005, -4.0], dtype=torch.float64), 10.0)
    assert float(t) == pytest.approx(0.01)  # type: ignore[arg-type]
    assert value.tolist() == pytest.approx([0.05, 0.1, -0.05, -2.0])


def test_known_values_of_singular_versions() -> None:
    u = torch.tensor([0.0, 0.05, -0.5], dtype=torch.float64)
    assert f_inv(u, 10.0)[1].tolist() == pytest.approx([0.0, 5.0, -2.0])
    assert f_log(u, 10.0)[1].tolist() == pytest.approx([-10.0, math.log(0.05), math.log(0.5)])
    assert f_power1d5(u, 10.0)[0] == ()
    assert f_power1d5(u, 10.0)[1].tolist() == pytest.approx([0.0, 0.05**1.5, 0.5**1.5])
    pole = torch.tensor([math.pi / 2, -math.pi / 2 - 0.5, 7.0], dtype=torch.float64)
    assert f_tan(pole, 10.0)[1].tolist() == pytest.approx([0.0, math.tan(-math.pi / 2 - 0.5), math.tan(7.0)], abs=1e-12)
    assert f_arctanh(torch.tensor([2.0, -2.0], dtype=torch.float64), 3.0)[1].tolist() == pytest.approx([3.0, -3.0])
