"""The sum over edges of a layer: the closed form, which larger layers take, against the composed one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from kan.bases import BSpline
from kan.drop_in import edge_sum as module
from kan.drop_in.edge_sum import basis_values, edge_sum
from kan.kernels.library import switched

pytestmark = pytest.mark.usefixtures("float64")


def parts(inputs: int, outputs: int, batch: int, scaler: bool, seed: int) -> tuple[BSpline, torch.Tensor, list[torch.Tensor | None]]:
    generator, basis = torch.Generator().manual_seed(seed), BSpline(4, 3)
    grid = basis.initial_grid(inputs, -1.0, 1.0).double()

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    return basis, grid, [
        draw(batch, inputs), draw(outputs, inputs), draw(outputs, inputs, basis.size), draw(outputs, inputs) if scaler else None,
    ]  # fmt: skip


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_both_ways_are_the_definition_with_equal_gradients(inputs: int, outputs: int, batch: int, scaler: bool, seed: int) -> None:
    basis, grid, (x, base, weight, scale) = parts(inputs, outputs, batch, scaler, seed)
    assert x is not None and base is not None and weight is not None
    prepared = basis.prepare(grid)
    rows = basis_values(x, basis, prepared)
    full = weight if scale is None else weight * scale[..., None]
    expected = torch.einsum("inb,oin->bo", rows, full) + F.silu(x) @ base.t()
    wanted = [tensor for tensor in (x, base, weight, scale) if tensor is not None]
    before, kept = torch.autograd.grad(expected.square().sum(), wanted), module.KEPT
    try:
        for module.KEPT, compiled in ((0, False), (1 << 30, False), (0, True)):
            with switched(compiled):
                y = edge_sum(x, base, weight, scale, F.silu, basis, prepared)
            torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
            for found, known in zip(torch.autograd.grad(y.square().sum(), wanted), before, strict=True):
                torch.testing.assert_close(found, known, rtol=1e-10, atol=1e-10)
    finally:
        module.KEPT = kept


@pytest.mark.parametrize("compiled", [False, True], ids=["torch", "compiled"])
@pytest.mark.parametrize("threshold", [0, 1 << 30])
def test_second_derivatives(threshold: int, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", threshold)
    basis, grid, (x, base, weight, scale) = parts(2, 2, 3, True, seed=1)
    assert x is not None and weight is not None
    prepared = basis.prepare(grid)
    with switched(compiled):
        assert torch.autograd.gradgradcheck(lambda x, w: edge_sum(0.3 * x, base, w, scale, torch.tanh, basis, prepared), (x, weight))


def test_without_a_base_function_the_splines_alone_remain() -> None:
    basis, grid, (x, base, weight, scale) = parts(2, 3, 4, True, seed=2)
    assert x is not None and base is not None and weight is not None
    prepared = basis.prepare(grid)
    with_base = edge_sum(x, base, weight, scale, F.silu, basis, prepared)
    torch.testing.assert_close(with_base - edge_sum(x, None, weight, scale, F.silu, basis, prepared), F.silu(x) @ base.t())


def test_numbers_of_two_bytes_are_worked_out_in_four() -> None:
    basis = BSpline(4, 3)
    prepared = basis.prepare(basis.initial_grid(1, -1.0, 1.0).float())
    x = torch.linspace(-0.9, 0.9, 7)[:, None].bfloat16()
    found = basis_values(x, basis, prepared)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, basis.rows(x.t().float(), prepared).bfloat16())
