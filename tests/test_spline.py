"""pykan's spline functions: the recursion one number at a time, pykan's numbers, shapes, degenerate data."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kan.spline
from kan.layers.kan_layer import KANLayer
from kan.spline import B_batch, coef2curve, curve2coef, extend_grid
from tests.data import proportions
from tests.reference import splines

pytestmark = pytest.mark.usefixtures("float64")

GRID = [[0.0, 1.0, 2.5, 3.0], [-1.0, 0.0, 1.0, 2.0]]
X = [[0.3, -0.9], [2.7, 1.999], [3.5, 2.0], [5.0, -3.0], [4.99, 3.5]]


def test_grids_are_extended_at_their_mean_spacing() -> None:
    grid = torch.tensor([*GRID, [2.0] * 4])
    expected = [[-2.0, -1.0, 0.0, 1.0, 2.5, 3.0, 4.0, 5.0], [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0], [2.0] * 8]
    torch.testing.assert_close(extend_grid(grid, 2), torch.tensor(expected))
    assert torch.equal(extend_grid(grid), grid)


@given(degree=st.integers(0, 4), intervals=st.integers(1, 6), inputs=st.integers(1, 3), samples=st.integers(1, 5), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_the_recursion(degree: int, intervals: int, inputs: int, samples: int, seed: int) -> None:
    grid = extend_grid(proportions(inputs, intervals + 1, seed=seed).cumsum(1), degree)
    low, high = float(grid.min()), float(grid.max())
    # Knots too, the last one among them, where all functions are 0.
    x = torch.cat([low - 1 + (high - low + 2) * proportions(samples, inputs, seed=seed + 1), grid.t()])
    values = B_batch(x, grid, degree)
    assert values.shape == (len(x), inputs, intervals + degree)
    np.testing.assert_allclose(values.numpy(), splines.basis(x.numpy(), grid.numpy(), degree), atol=1e-11)


def test_pykans_numbers() -> None:
    values = B_batch(torch.tensor(X), extend_grid(torch.tensor(GRID), 2), k=2)
    expected = [
        [[0.245, 0.719, 0.036, 0, 0], [0.405, 0.59, 0.005, 0, 0]],
        [[0, 0, 0.09, 0.8566666667, 0.0533333333], [0, 0, 5e-7, 0.500999, 0.4990005]],
        [[0, 0, 0, 0.1666666667, 0.7083333333], [0, 0, 0, 0.5, 0.5]],
        [[0] * 5, [0] * 5],
        [[0, 0, 0, 0, 5e-5], [0, 0, 0, 0, 0.125]],
    ]
    torch.testing.assert_close(values, torch.tensor(expected), rtol=0, atol=1e-10)
    constant = B_batch(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor(GRID[:1]), k=0)
    torch.testing.assert_close(constant[:, 0], torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0]]))


def test_one_row_of_knots_serves_all_columns() -> None:
    # The notebook on extrapolation and grids calls it so.
    grid = extend_grid(torch.linspace(-1, 1, 6)[None], 3)
    x = torch.linspace(-1, 1, 1001)[None]
    values = B_batch(x, grid, k=3)
    assert values.shape == (1, 1001, 8)
    expected = torch.tensor([0, 0.0208333333, 0.4791666667, 0.4791666667, 0.0208333333, 0, 0, 0])
    torch.testing.assert_close(values[0, 300], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(values.sum(2), torch.ones(1, 1001))
    both = B_batch(torch.tensor([[0.3], [1.2]]), extend_grid(torch.tensor(GRID), 3), k=3)
    for i, row in enumerate(GRID):
        torch.testing.assert_close(both[:, [i]], B_batch(torch.tensor([[0.3], [1.2]]), extend_grid(torch.tensor([row]), 3), k=3))


def test_repeated_knots_give_no_nan() -> None:
    values = B_batch(torch.tensor([[2.0], [1.0]]), torch.full((1, 8), 2.0), k=2)
    assert torch.equal(values, torch.zeros(2, 1, 5))


def test_it_is_differentiable_in_x() -> None:
    grid = extend_grid(torch.tensor(GRID), 3)
    x = (proportions(4, 2) * 1.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: B_batch(x, grid, 3), x)


def test_dtypes_are_widened() -> None:
    grid, coef = extend_grid(torch.tensor(GRID), 2), torch.ones(2, 3, 5)
    for x_type, grid_type, coef_type in [(torch.float64, torch.float32, torch.float32), (torch.float32, torch.float32, torch.float64)]:
        y = coef2curve(torch.tensor(X, dtype=x_type), grid.to(grid_type), coef.to(coef_type), 2)
        assert y.dtype == torch.float64 and y.shape == (5, 2, 3)
    assert B_batch(torch.tensor(X).float(), grid.float(), 2).dtype == torch.float32


def test_curves_are_those_of_a_layer() -> None:
    layer = KANLayer(2, 3, num=4, k=3, generator=torch.Generator().manual_seed(0))
    x = proportions(10, 2) * 2 - 1
    postsplines = layer(x)[3].transpose(1, 2)
    torch.testing.assert_close(coef2curve(x, layer.grid, layer.coef, layer.k), postsplines)


@given(degree=st.integers(0, 4), intervals=st.integers(1, 6), inputs=st.integers(1, 3), outputs=st.integers(1, 3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_coefficients_come_back_from_their_curves(degree: int, intervals: int, inputs: int, outputs: int, seed: int) -> None:
    grid = extend_grid(torch.linspace(-1, 1, intervals + 1).expand(inputs, -1), degree)
    coef = proportions(inputs, outputs, intervals + degree, seed=seed) - 0.5
    # Equidistant, so that every spline is seen; away from the ends of intervals, where splines of degree 0 jump.
    x = (torch.arange(20 * intervals) + 0.5)[:, None].expand(-1, inputs) / (10 * intervals) - 1
    found = curve2coef(x, coef2curve(x, grid, coef, degree), grid, degree)
    torch.testing.assert_close(found, coef, rtol=1e-8, atol=1e-8)


def test_pykans_coefficients() -> None:
    grid = extend_grid(torch.tensor(GRID[:1]), 2)
    x = torch.linspace(0, 3, 20)[:, None]
    expected = torch.tensor([-0.5781688635, 0.5583208606, 1.2520687743, 0.3790628077, -0.3258388766])
    torch.testing.assert_close(curve2coef(x, x.sin()[:, :, None], grid, 2)[0, 0], expected, rtol=0, atol=1e-8)
    # Fewer samples than splines: the smallest of the solutions.
    x = torch.tensor([[0.2], [0.9], [2.6]])
    expected = torch.tensor([-1.2536352464, 2.0639755946, 1.9177177540, -1.5804374536, -0.0254909267])
    torch.testing.assert_close(curve2coef(x, torch.tensor([1.0, 2, -1])[:, None, None], grid, 2)[0, 0], expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_degenerate_samples_have_finite_coefficients_of_least_error(degree: int) -> None:
    # One spline sees no sample, one sample comes twice; pykan gives zeros for such an input, and fails for degree 0.
    grid = extend_grid(torch.linspace(-1, 1, 5)[None], degree)
    x = torch.cat([proportions(30, 1), proportions(1, 1).expand(2, 1)])
    y = (3 * x).cos()[:, :, None]
    coef = curve2coef(x, y, grid, degree)
    design = B_batch(x, grid, degree)[:, 0].numpy()
    expected = np.linalg.lstsq(design, y[:, 0].numpy(), rcond=1e-13)[0]
    np.testing.assert_allclose(coef[0].T.numpy(), expected, atol=1e-8)


def test_float32_is_kept() -> None:
    grid, x = extend_grid(torch.linspace(-1, 1, 5)[None], 3).float(), proportions(20, 1).float()
    assert curve2coef(x, x[:, :, None], grid, 3).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: extend_grid(torch.zeros(3), 1), "grid must have the shape (inputs, points) with at least two points; got (3,)."),
        (lambda: extend_grid(torch.zeros(1, 1), 1), "with at least two points; got (1, 1)."),
        (lambda: extend_grid(torch.zeros(1, 2), -1), "k_extend, the number of points to add on each side, must be at least 0; got -1."),
        (lambda: B_batch(torch.zeros(3), torch.zeros(1, 5), 1), "one row of knots per input or one for all; got (3,) and (1, 5)."),
        (lambda: B_batch(torch.zeros(3, 2), torch.zeros(3, 5), 1), "got (3, 2) and (3, 5)."),
        (lambda: B_batch(torch.zeros(3, 1), torch.zeros(1, 3), 1), "knots must have the shape (in_features, intervals + 2*degree + 1)"),
        (lambda: B_batch(torch.zeros(3, 1), torch.tensor([[0.0, 2, 1, 3]]), 1), "knots must not decrease along a row"),
        (
            lambda: coef2curve(torch.zeros(3, 1), torch.arange(6.0)[None], torch.zeros(1, 2, 5), 2),
            "coef must have the shape (1, outputs, 3); got (1, 2, 5).",
        ),
        (
            lambda: curve2coef(torch.zeros(3, 1), torch.zeros(3, 2), torch.arange(6.0)[None], 2),
            "y_eval must have the shape (3, 1, outputs); got (3, 2).",
        ),
    ],
)
def test_bad_input(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_all_outputs_share_one_design_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    # pykan's defect 56: a copy for every output.
    grid = extend_grid(torch.linspace(-1, 1, 6)[None].expand(2, -1), 3)
    x, solve, shapes = proportions(40, 2, seed=4) * 2 - 1, kan.spline.solve, []

    def seen(design: Tensor, target: Tensor) -> Tensor:
        shapes.append((tuple(design.shape), tuple(target.shape)))
        return solve(design, target)

    monkeypatch.setattr(kan.spline, "solve", seen)
    curve2coef(x, proportions(40, 2, 7), grid, 3)
    assert shapes == [((2, 40, 8), (2, 40, 7))]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("degree", [0, 3])
def test_degenerate_samples_on_a_gpu(degree: int) -> None:
    # pykan's defect 31: a solver that takes full rank for granted.
    grid = extend_grid(torch.linspace(-1, 1, 5)[None], degree)
    x = torch.cat([proportions(30, 1), proportions(1, 1).expand(2, 1)])
    y = (3 * x).cos()[:, :, None]
    found = curve2coef(x.cuda(), y.cuda(), grid.cuda(), degree)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), curve2coef(x, y, grid, degree), rtol=0, atol=1e-8)
