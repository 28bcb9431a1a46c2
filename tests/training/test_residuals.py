"""Training on residuals: the Jacobian, problems whose solution is known, several terms, bad input."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.network.network import Network
from kan.surgery.edges import fix_symbolic_
from kan.training import residuals
from kan.training.least_squares.coordinates import Columns
from kan.training.models.of_network import trainable_parameters
from kan.training.residuals import Term, _PerPoint, _Residuals, fit_residuals
from tests.data import uniform, wild

pytestmark = pytest.mark.usefixtures("float64")

Function = Callable[[Tensor], Tensor]


def laplacian(u: Function, x: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
    return sum(torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1]))


def mixed(u: Function, x: Tensor) -> Tensor:
    """Second derivatives, products and two calls, two components."""
    value = u(x)
    return torch.stack([laplacian(u, x) * value[:, 0], u(x * 0.5)[:, -1] - value[:, 0].exp()], 1)


@pytest.mark.parametrize(("width", "affine"), [([2, 2, 1], False), ([2, [1, 1], 2], True)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_the_jacobian_is_the_derivative(width: list, affine: bool, symbolic: bool) -> None:
    network, x = wild(width, grid=3, affine_trainable=affine), uniform(5, 2)
    if symbolic:
        network(x)
        fix_symbolic_(network, (0, 0, 0), "sin", fit_params_bool=False, random=True)
    problem = _Residuals(network, [Term(mixed, x, 2.0)], Columns(network, trainable_parameters(network)))

    def now() -> Tensor:
        return mixed(lambda z: network.trace(z).output, x.clone().requires_grad_()).detach().t().flatten() * math.sqrt(2 / 10)

    ((rows, residual),) = problem._chunks()
    torch.testing.assert_close(residual, now())
    assert problem.value() == pytest.approx(float(now().square().sum()))
    step, expected = 1e-6, []
    for unit in torch.eye(problem.columns.count) * step:
        problem.move_(unit)
        above = now()
        problem.move_(-2 * unit)
        expected.append((above - now()) / (2 * step))
        problem.move_(unit)
    torch.testing.assert_close(rows, torch.stack(expected), rtol=1e-4, atol=1e-6)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = wild([2, 2, 1], grid=3), uniform(9, 2)
    problem = _Residuals(
        network, [Term(mixed, x, 1.0), Term(lambda u, x: u(x)[:, 0], x[:4], 3.0)], Columns(network, trainable_parameters(network))
    )
    whole = problem.linearise()
    monkeypatch.setattr(residuals, "JACOBIAN_ENTRIES", 2 * problem.columns.count)
    assert len(list(problem._chunks())) == 7
    torch.testing.assert_close(problem.linearise()._gram, whole._gram)


def test_poisson_equation() -> None:
    axis = torch.linspace(-1, 1, 15)
    points = torch.cartesian_prod(axis, axis)
    edge = (points.abs() == 1).any(1)

    def truth(x: Tensor) -> Tensor:
        return torch.sin(torch.pi * x[:, 0]) * torch.sin(torch.pi * x[:, 1])

    def equation(u: Function, x: Tensor) -> Tensor:
        return laplacian(u, x) + 2 * torch.pi**2 * truth(x)

    network, seen = Network([2, 5, 1], grid=5, seed=0), []
    history = fit_residuals(
        network, [equation, lambda u, x: u(x)], [points[~edge], points[edge]], steps=20, weights=[1, 1e3], grids=[5, 10],
        callback=lambda step, value: seen.append((step, value)),
    )  # fmt: skip
    assert network.grid == 10
    assert [step for step, _ in seen] == list(range(len(history) - 1)) and seen[-1][1] == pytest.approx(history[-1] ** 2)
    with torch.no_grad():
        error = network(points)[:, 0] - truth(points)
    assert float(error.norm() / truth(points).norm()) < 5e-2
    assert network.last_input is not None and len(network.last_input) == len(points)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_differential_equation_in_any_format(dtype: torch.dtype) -> None:
    def decay(u: Function, t: Tensor) -> Tensor:
        assert t.dtype == torch.float64
        return torch.autograd.grad(u(t).sum(), t, create_graph=True)[0] + u(t)

    network, t = Network([1, 1], grid=5).to(dtype), torch.linspace(0, 1, 40, dtype=dtype)[:, None]
    fit_residuals(network, [decay, lambda u, x: u(x) - 1], [t, torch.zeros(1, 1, dtype=dtype)], steps=15, grids=[5, 12])
    assert network.dtype == dtype
    with torch.no_grad():
        torch.testing.assert_close(network(t), torch.exp(-t), rtol=0, atol=1e-6)


def test_nothing_to_improve_and_no_time() -> None:
    network, x = Network([1, 1]), uniform(10, 1)
    assert len(fit_residuals(network, lambda u, x: 0 * u(x), x)) <= 7  # the grid still follows the points
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert len(fit_residuals(network, lambda u, x: u(x) - 1, x, time_limit=0.0, grid_updates=0)) <= 2
    assert len(fit_residuals(network, lambda u, x: u(x) - 1, x, steps=0)) == 1
    assert before.keys() == network.state_dict().keys()


def one(u: Function, x: Tensor) -> Tensor:
    return u(x)


@pytest.mark.parametrize(
    ("function", "points", "weights", "message"),
    [
        ([one, one], [torch.zeros(3, 2)], None, r"got 2 function\(s\), 1 set\(s\) of points"),
        (one, torch.zeros(3, 2), [1.0, 2.0], r"2 weight\(s\)"),
        (one, torch.zeros(3, 2), [-1.0], "weights must be positive"),
        (one, torch.zeros(3, 5), None, r"shape \(number of samples, 2\)"),
        (one, torch.zeros(0, 2), None, "at least one per residual function"),
        (one, torch.full((3, 2), math.nan), None, "points must be finite"),
        (lambda u, x: u(x).sum(), torch.zeros(3, 2), None, "one row of residuals per point"),
        (lambda u, x: 3.0, torch.zeros(3, 2), None, "got float"),
        (lambda u, x: u(x) / 0, torch.zeros(3, 2), None, "not finite at the network's present parameters"),
    ],
)
def test_bad_input(function: object, points: object, weights: object, message: str) -> None:
    network = Network([2, 1])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        fit_residuals(network, function, points, weights=weights)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


def test_other_points_than_the_given_ones_are_refused() -> None:
    network = Network([2, 1])
    own = _PerPoint(network, Columns(network, trainable_parameters(network)).blocks, 4)
    with pytest.raises(ValueError, match="got 3 points for 4"):
        own(torch.zeros(3, 2))


def test_a_model_saves_a_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([1, 1], ckpt_path=tmp_path)
    history = model.fit_residuals(lambda u, x: u(x) - x**2, uniform(20, 1), 3)
    assert history[-1] < history[0] and (tmp_path / "0.1_state").exists()
    assert "saving model version 0.1" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_callback_that_raises_costs_nothing(error: type[BaseException], dtype: torch.dtype) -> None:
    def stop(step: int, value: float) -> None:
        if step == 2:
            raise error

    network, x = Network([1, 1], grid=4).to(dtype), uniform(30, 1).to(dtype)
    with torch.no_grad():
        before = float((network(x) - x.sin()).square().mean())
    ends = pytest.warns(UserWarning, match="fit_residuals: interrupted; the network is as step 2 left it")
    with ends if error is KeyboardInterrupt else pytest.raises(error):
        history = fit_residuals(network, lambda u, x: u(x) - x.sin(), x, grid_updates=0, callback=stop)
        assert len(history) == 4
    with torch.no_grad():
        assert float((network(x) - x.sin()).square().mean()) < 1e-2 * before


@pytest.mark.parametrize("when", [2, 5, 9, 14])
def test_an_interrupt_undoes_its_step_and_what_was_before_is_saved(when: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, x, calls, states = KAN([1, 1], ckpt_path=tmp_path), uniform(30, 1), 0, [copy.deepcopy(KAN([1, 1], auto_save=False).state_dict())]

    def residual(u: Any, x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == when:
            raise KeyboardInterrupt
        return u(x) - x.sin()

    with pytest.warns(UserWarning, match="fit_residuals: interrupted"):
        history = model.fit_residuals(residual, x, callback=lambda *_: states.append(copy.deepcopy(model.state_dict())))
    done = len(states) > 1
    assert len(history) == (len(states) if done else 0)
    assert all(torch.equal(value, states[-1][name]) for name, value in model.state_dict().items())
    assert (tmp_path / "0.1_state").exists() == done and model.state_id == done and (model.last_input is not None) == done
