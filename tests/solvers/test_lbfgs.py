"""L-BFGS: the dense formula, hard functions to the last digit, values that are not finite, ends that are ends."""

import inspect
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kan.solvers.lbfgs import LBFGS, Memory

pytestmark = pytest.mark.usefixtures("float64")

TO_THE_END = {"tolerance_grad": 1e-32, "tolerance_change": 1e-32, "tolerance_ys": 1e-32, "line_search_fn": "strong_wolfe"}


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def run(function: Callable[[Tensor], Tensor], start: Tensor, steps: int, **options: object) -> tuple[Tensor, list[int], LBFGS]:
    """Minimum found from `start`, evaluations per step, and the optimiser."""
    x = start.clone().requires_grad_()
    optimizer = LBFGS([x], **{**TO_THE_END, **options})
    counts = [0]

    def closure() -> Tensor:
        counts[-1] += 1
        optimizer.zero_grad()
        value = function(x)
        value.backward()
        return value

    for _ in range(steps):
        optimizer.step(closure)
        counts.append(0)
    return x.detach(), counts[:-1], optimizer


@pytest.mark.parametrize("size", [2, 5, 10])
def test_rosenbrock_to_machine_precision(size: int) -> None:
    start = torch.full((size,), -1.2)
    start[1::2] = 1.0
    x, _, _ = run(rosenbrock, start, 20)
    gradient = torch.autograd.functional.jacobian(rosenbrock, x)
    assert float(gradient.abs().max()) < 1e-11
    if size == 2:
        torch.testing.assert_close(x, torch.ones(2), rtol=0, atol=1e-14)


@pytest.mark.parametrize("condition", [1e2, 1e6])
def test_quadratic_to_machine_precision(condition: float) -> None:
    curvature = torch.logspace(0, math.log10(condition), 12)
    centre = torch.linspace(-1, 2, 12)
    x, _, _ = run(lambda x: (curvature * (x - centre) ** 2).sum(), torch.zeros(12), 20)
    torch.testing.assert_close(x, centre, rtol=0, atol=1e-12)


def test_loss_far_below_1e_10_still_has_curvature() -> None:
    # torch.optim.LBFGS drops every pair here.
    curvature = torch.logspace(-14, -10, 6)
    x, _, _ = run(lambda x: (curvature * (x - 1) ** 2).sum(), torch.zeros(6), 40)
    torch.testing.assert_close(x, torch.ones(6), rtol=0, atol=1e-6)


def test_direction_is_that_of_the_dense_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    size, kept = 7, 4
    factor = torch.randn(size, size, generator=generator)
    hessian = factor @ factor.T + torch.eye(size)
    memory, pairs = Memory(torch.zeros(size), kept), []
    for count in range(7):
        s = torch.randn(size, generator=generator)
        y = hessian @ s
        grad = torch.randn(size, generator=generator)
        memory.append(s, y, 0.0, grad)
        memory.append(s, -y, 0.0, grad)  # negative curvature is not kept
        pairs = [*pairs, (s.numpy(), y.numpy())][-kept:]
        assert memory.count == len(pairs) == min(count + 1, kept)
        last_s, last_y = pairs[-1]
        inverse = np.eye(size) * (last_s @ last_y) / (last_y @ last_y)
        for s_i, y_i in pairs:
            rho = 1 / (s_i @ y_i)
            left = np.eye(size) - rho * np.outer(s_i, y_i)
            inverse = left @ inverse @ left.T + rho * np.outer(s_i, s_i)
        for asked in (grad, torch.randn(size, generator=generator)):  # announced with the pair, or not
            np.testing.assert_allclose(memory.direction(asked).numpy(), -inverse @ asked.numpy(), rtol=1e-9, atol=1e-9)
    memory.clear()
    torch.testing.assert_close(memory.direction(grad), -grad)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_backed_out_of(bad: float) -> None:
    def function(x: Tensor) -> Tensor:
        value = ((x - 0.9) ** 2).sum()
        return value if float(x.detach().max()) < 1.0 else value * bad

    x, _, _ = run(function, torch.tensor([-30.0, 0.5]), 10)
    torch.testing.assert_close(x, torch.full((2,), 0.9), rtol=0, atol=1e-7)


def test_logarithm_is_not_left_for_its_undefined_side() -> None:
    x, _, _ = run(lambda x: (x - torch.log(x)).sum(), torch.tensor([30.0, 1e-3]), 10)
    torch.testing.assert_close(x, torch.ones(2), rtol=0, atol=1e-7)


def test_a_start_that_is_not_finite_stays() -> None:
    start = torch.tensor([math.nan, 1.0])
    x, counts, _ = run(lambda x: (x**2).sum(), start, 2)
    assert torch.equal(x.isnan(), start.isnan()) and float(x[1]) == 1 and counts == [1, 1]


def test_a_stalled_optimiser_costs_one_evaluation_a_step() -> None:
    # The minimum is met up to round-off, but the gradient there is not zero.
    x, counts, optimizer = run(lambda x: ((x**2 - 2) ** 2).sum() + 1, torch.tensor([1.0, 3.0, -2.0]), 30)
    torch.testing.assert_close(x.abs(), torch.full((3,), math.sqrt(2.0)), rtol=0, atol=1e-7)
    assert counts[-20:] == [1] * 20
    assert sum(counts) < 150
    assert optimizer.state[optimizer._params[0]]["stalled"] is not None


def test_it_goes_on_when_the_objective_changes_after_a_stall() -> None:
    x, shift = torch.zeros(2, requires_grad=True), 0.3
    optimizer = LBFGS([x], **TO_THE_END)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = ((x - shift) ** 2 + 0.1 * (x - shift) ** 4).sum() + 1
        value.backward()
        return value

    for _ in range(10):
        optimizer.step(closure)
    shift = -5.0
    for _ in range(10):
        optimizer.step(closure)
    torch.testing.assert_close(x.detach(), torch.full((2,), -5.0), rtol=0, atol=1e-6)


def test_reset_forgets_the_curvature() -> None:
    _, _, optimizer = run(rosenbrock, torch.tensor([-1.2, 1.0]), 1)
    assert optimizer.state[optimizer._params[0]]["memory"].count > 0
    optimizer.reset()
    assert optimizer.state[optimizer._params[0]]["memory"] is None


def test_iterations_and_evaluations_are_bounded() -> None:
    start = torch.full((10,), -1.2)
    _, counts, optimizer = run(rosenbrock, start, 1, max_iter=7)
    assert optimizer.state[optimizer._params[0]]["n_iter"] <= 7
    assert counts[0] == optimizer.state[optimizer._params[0]]["func_evals"]
    _, counts, _ = run(rosenbrock, start, 1, max_iter=1000, max_eval=10)
    assert counts[0] <= 10 + 25  # the last line search may finish


def test_several_parameters_and_missing_gradients() -> None:
    a, b, unused = torch.zeros(2, 2, requires_grad=True), torch.zeros(3, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = LBFGS([a, b, unused], **TO_THE_END)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = ((a - 1) ** 2).sum() + ((b + 2) ** 2 * torch.tensor([1.0, 10.0, 100.0])).sum() + (a[0, 0] * b[0]) ** 2
        value.backward()
        return value

    first = closure().item()
    assert optimizer.step(closure).item() == first
    for _ in range(10):
        optimizer.step(closure)
    closure()
    assert max(float(a.grad.abs().max()), float(b.grad.abs().max())) < 1e-12
    assert torch.equal(unused.detach(), torch.ones(2))


def test_closures_may_return_numbers() -> None:
    x = torch.ones(2, requires_grad=True)
    optimizer = LBFGS([x], **TO_THE_END)

    def closure() -> float:
        optimizer.zero_grad()
        value = (x**2).sum()
        value.backward()
        return value.item()

    optimizer.step(closure)
    assert float(x.detach().abs().max()) < 1e-12


def test_float32() -> None:
    x, _, _ = run(rosenbrock, torch.tensor([-1.2, 1.0], dtype=torch.float32), 20)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.ones(2, dtype=torch.float32), rtol=0, atol=1e-4)


def test_steps_of_fixed_length() -> None:
    x, _, _ = run(lambda x: (x**2).sum(), torch.ones(3), 5, line_search_fn=None, lr=0.5)
    assert float(x.abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"line_search_fn": "armijo"}, "line_search_fn must be 'strong_wolfe' or None; got 'armijo'."),
        ({"lr": 0.0}, "lr must be positive; got 0.0."),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LBFGS([torch.zeros(1, requires_grad=True)], **options)
    with pytest.raises(ValueError, match=re.escape("LBFGS works on a single group of parameters; pass them in one list.")):
        LBFGS([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}])


def test_pykans_arguments_in_pykans_order() -> None:
    names = list(inspect.signature(LBFGS.__init__).parameters)[1:10]
    assert names == [
        "params", "lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change", "tolerance_ys", "history_size", "line_search_fn"
    ]  # fmt: skip
    defaults = LBFGS([torch.zeros(1, requires_grad=True)]).defaults
    assert defaults == {
        "lr": 1.0, "max_iter": 20, "max_eval": 25, "tolerance_grad": 1e-7, "tolerance_change": 1e-9, "tolerance_ys": 1e-32,
        "history_size": 100, "line_search_fn": None,
    }  # fmt: skip


def test_pairs_of_too_little_curvature_are_dropped() -> None:
    start = torch.tensor([1.0, -1.0])
    kept, dropped = (run(lambda x: 1e-8 * (x**2).sum(), start, 1, tolerance_ys=least, max_iter=2)[2] for least in (1e-32, 1.0))
    assert [optimizer.state[optimizer._params[0]]["memory"].count for optimizer in (kept, dropped)] == [1, 0]


def test_no_global_generator_is_touched_and_the_first_loss_is_returned() -> None:
    x = torch.tensor([-1.2, 1.0], requires_grad=True)
    optimizer = LBFGS([x], **TO_THE_END)
    losses: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = rosenbrock(x) + 0 * torch.rand(1).sum()
        value.backward()
        losses.append(value.item())
        return value

    torch.manual_seed(3)
    for _ in range(3):
        start = len(losses)
        assert optimizer.step(closure).item() == losses[start]
    after = torch.rand(1)
    torch.manual_seed(3)
    torch.rand(len(losses))  # the closure's own draws, and no others
    assert torch.equal(after, torch.rand(1))


def test_frozen_parameters_stay() -> None:
    free, frozen = torch.ones(2, requires_grad=True), torch.ones(2)
    optimizer = LBFGS([free, frozen], **TO_THE_END)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = ((free - frozen * 3) ** 2).sum()
        value.backward()
        return value

    for _ in range(3):
        optimizer.step(closure)
    torch.testing.assert_close(free.detach(), torch.full((2,), 3.0))
    assert torch.equal(frozen, torch.ones(2))


def test_it_does_without_torchs_compiler() -> None:
    """Importing that takes a second and 80 MB."""
    code = (
        "import sys, torch; from kan.solvers.lbfgs import LBFGS\n"
        "x = torch.ones(2, requires_grad=True); LBFGS([x]).step(lambda: (x.grad is None and (x**2).sum().backward(), (x**2).sum())[1])\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
