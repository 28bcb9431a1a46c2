"""The objective, the iterations of L-BFGS and the normal equations by the compiled kernels, beside those by torch."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from kan import KAN
from kan.kernels.library import library, switched
from kan.kernels.network import SplitNetwork
from kan.network.network import Network
from kan.solvers.lbfgs import LBFGS
from kan.training.least_squares.coordinates import Columns
from kan.training.least_squares.network_problem import NetworkProblem
from kan.training.models.of_network import trainable_parameters
from kan.training.objectives import compiled
from kan.training.objectives.back_end import BACK_END
from kan.training.objectives.closed_form import Problem, Value
from kan.training.objectives.make import plain_objective
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import Penalty
from tests.data import proportions, uniform, wild

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.skipif(library(torch.float64) is None, reason="the kernels have not been compiled, or are switched off"),
]

PENALTY = Penalty(lamb_l1=1.0, lamb_entropy=2.0, lamb_coef=0.3, lamb_coefdiff=0.2)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether each objective asked for was one of the kernels, so that no test passes by comparing torch with itself."""
    found: list[bool] = []
    original = compiled.compiled

    def watched(*arguments: Any) -> Any:
        result = original(*arguments)
        found.append(result is not None)
        return result

    monkeypatch.setattr(compiled, "compiled", watched)
    yield found


def objective_of(network: Network, lamb: float = 0.0, loss: Callable[..., Tensor] = F.mse_loss, corner: float = 0.0) -> Objective:
    return Objective(network, loss, lamb, penalty=PENALTY, corner=corner)


def evaluated(objective: Objective, x: Tensor, y: Tensor, weight: Tensor | None = None) -> tuple[Value, list[Tensor | None]]:
    form = objective.closed_form
    assert form is not None
    return BACK_END.value_and_gradients(Problem(objective, form, x, y, None, weight), [p.requires_grad for p in form.parameters])


def compare(objective: Objective, x: Tensor, y: Tensor, weight: Tensor | None = None, tolerance: float = 1e-12) -> None:
    """Values and gradients by the kernels and by torch agree, relative to the largest value and the largest entry of all gradients."""
    ours = evaluated(objective, x, y, weight)
    with switched(False):
        theirs = evaluated(objective, x, y, weight)
    for found, expected in zip(ours, theirs, strict=True):
        scale = max(float(b.abs().max()) for b in expected if b is not None)
        for a, b in zip(found, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert a.dtype == b.dtype and a.shape == b.shape
                torch.testing.assert_close(a, b, rtol=0, atol=tolerance * scale)


def labels(x: Tensor, outputs: int, seed: int = 9) -> Tensor:
    return uniform(len(x), outputs, low=-2.0, high=2.0, seed=seed).to(x.dtype)


@given(
    width=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    grid=st.integers(1, 30),
    k=st.integers(1, 5),
    batch=st.sampled_from([1, 2, 3, 127, 128, 129, 300]),
    lamb=st.sampled_from([0.0, 0.01]),
    adapted=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_objective_and_gradients_agree_with_torch(
    calls: list[bool], width: list[int], grid: int, k: int, batch: int, lamb: float, adapted: bool, seed: int
) -> None:
    calls.clear()
    network = wild(width, seed=seed, grid=grid, k=k)
    x = uniform(batch, width[0], low=-1.4, high=1.4, seed=seed)  # some are outside of the grid
    if adapted and k > 1 and batch > 3 * grid:  # slopes of degree 1 jump at knots, which lie on samples then
        network.update_grid(x)
    # A third layer amplifies rounding by the slopes of random curves. Torch's deviations of edges are quadratic forms of covariances,
    # in which digits are lost.
    tolerance = 1e-9 if len(width) > 3 else 1e-10 if lamb else 1e-12
    compare(objective_of(network, lamb, corner=0.01), x, labels(x, width[-1]), tolerance=tolerance)
    assert calls == [True, False]


@pytest.mark.parametrize("lamb", [0.0, 0.02])
@pytest.mark.parametrize("corner", [0.0, 0.01])
def test_multiplication_nodes_maps_masks_and_weights(calls: list[bool], lamb: float, corner: float) -> None:
    network = wild([3, [2, 2], [1, 1], 2], seed=3, grid=4, mult_arity=[[], [2, 3], [2], []], affine_trainable=True)
    x = uniform(200, 3, seed=1)
    compare(objective_of(network, lamb, corner=corner), x, labels(x, 2), proportions(200, seed=4))
    for name, p in network.named_parameters():
        p.requires_grad_("scale" not in name)
    compare(objective_of(network, lamb, corner=corner), x, labels(x, 2))
    assert calls == [True, False] * 2


@pytest.mark.parametrize(
    "base",
    ["silu", "identity", "zero", torch.tanh, nn.Tanh(), nn.GELU(), F.gelu, F.silu],
    ids=lambda base: getattr(base, "__name__", str(base)),
)
def test_base_functions(calls: list[bool], base: Any) -> None:
    network = wild([2, 3, 1], seed=2, base_fun=base)
    x = uniform(150, 2, low=-30.0, high=30.0, seed=1)
    compare(objective_of(network, 0.01), x, labels(x, 1))
    assert calls == [True, False]


@pytest.mark.parametrize("width", [[2, 5, 1], [3, 20, 2]])
def test_single_precision(calls: list[bool], width: list[int]) -> None:
    network = wild(width, seed=1).float()
    x = uniform(300, width[0], seed=3).float()
    compare(objective_of(network, 0.01, corner=0.01), x, labels(x, width[-1]), tolerance=1e-5)
    assert calls == [True, False]


def test_another_loss(calls: list[bool]) -> None:
    network = wild([2, 4, 3], seed=5)
    x = uniform(100, 2, seed=3)
    compare(objective_of(network, 0.01, F.l1_loss), x, labels(x, 3))
    compare(objective_of(network, 0.0, F.cross_entropy), x, torch.arange(100) % 3)
    assert calls == [True, False] * 2


def test_points_on_knots_and_repeated_knots(calls: list[bool]) -> None:
    network = wild([2, 3, 1], seed=6, grid=5)
    layer = network.numeric_layers[0]
    with torch.no_grad():
        layer.grid[0, 5:8] = layer.grid[0, 5].clone()
    x = layer.grid.detach().t()[:, [0, 1]].contiguous()
    compare(objective_of(network, 0.01), x, labels(x, 1))
    assert calls == [True, False]


def test_numbers_that_are_not_finite_are_passed_on() -> None:
    for adapt in (False, True):
        network = wild([2, 3, 2], seed=6)
        x = uniform(50, 2, seed=3)
        if adapt:
            network.update_grid(x)
        for value in (float("nan"), float("inf"), -float("inf")):
            bad = x.clone()
            bad[7, 1] = value
            objective = objective_of(network)
            with torch.no_grad():
                ours = objective.predict(bad)
                with switched(False):
                    theirs = objective.predict(bad)
            assert torch.equal(torch.isfinite(ours), torch.isfinite(theirs))
            torch.testing.assert_close(ours[:7], theirs[:7], rtol=0, atol=1e-12)


def test_an_empty_batch_is_left_to_torch(calls: list[bool]) -> None:
    objective = objective_of(wild([2, 3, 1]))
    with torch.no_grad():
        assert objective.predict(torch.zeros(0, 2)).shape == (0, 1)
    assert calls == [False]


def test_a_batch_that_is_not_kept_between_the_passes(calls: list[bool]) -> None:
    """Of so many samples the first pass keeps nothing, and the second computes it again."""
    network = wild([2, 6, 1], seed=4)
    x = uniform(30_000, 2, seed=3)
    compare(objective_of(network, 0.01, corner=0.01), x, labels(x, 1), proportions(len(x), seed=4), tolerance=1e-11)
    assert calls == [True, False]


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss])
def test_a_large_batch_is_divided_among_threads(
    calls: list[bool], monkeypatch: pytest.MonkeyPatch, loss: Callable[..., Tensor]
) -> None:
    monkeypatch.setattr(compiled, "VALUES_OF_EDGES_PER_THREAD", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    network = wild([2, 3, 2], seed=4)
    x = uniform(1000, 2, seed=3)
    objective = objective_of(network, loss=loss)
    weight = proportions(1000, seed=4) if loss is F.mse_loss else None
    for _ in range(2):
        compare(objective, x, labels(x, 2), weight, tolerance=1e-11)
        network.update_grid(x)
    form = objective.closed_form
    assert form is not None and [type(kept.network) for kept in form.workspaces.values()] == [SplitNetwork]
    assert calls == [True, False] * 2


def test_what_is_kept_follows_changes_of_grid_samples_and_parameters() -> None:
    network = wild([2, 3, 1], seed=7, grid=4)
    x, objective = uniform(200, 2, seed=3), objective_of(network, 0.01)
    y = labels(x, 1)
    compare(objective, x, y)
    with torch.no_grad():
        for p in (network.numeric_layers[0].coef, network.numeric_layers[1].mask):
            p.mul_(1.3)
    compare(objective, x, y)
    network.update_grid(x)
    compare(objective, x, y)
    x.mul_(0.9)
    compare(objective, x, y)
    compare(objective, uniform(200, 2, seed=4), y)
    compare(objective, x[:100].clone(), y[:100].clone())
    compare(objective, x, y)


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.fix_symbolic(0, 0, 0, "sin", verbose=False, log_history=False),
        lambda network: setattr(network.numeric_layers[0], "base_fun", nn.Softplus()),
    ],
    ids=["symbolic edge", "another base function"],
)
def test_what_the_kernels_do_not_know_is_left_to_torch(calls: list[bool], change: Callable[[KAN], Any]) -> None:
    model = KAN([2, 3, 1], seed=0, auto_save=False)
    x = uniform(50, 2, seed=1)
    model(x)
    change(model)
    evaluated(objective_of(model), x, labels(x, 1))
    assert calls == [False]


@pytest.mark.parametrize("settings", [{"basis": "chebyshev"}, {"k": 6}], ids=str)
def test_other_bases_and_degrees_are_left_to_torch(calls: list[bool], settings: dict[str, Any]) -> None:
    model = KAN([2, 3, 1], seed=0, auto_save=False, **settings)
    x = uniform(50, 2, seed=1)
    evaluated(objective_of(model), x, labels(x, 1))
    assert calls == [False]


def trained_by(network: Network, x: Tensor, y: Tensor, kernels: bool, lamb: float, steps: int) -> tuple[Tensor, LBFGS]:
    objective = objective_of(network, lamb, corner=0.01)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = LBFGS(parameters, history_size=4, line_search_fn="strong_wolfe", tolerance_grad=0.0, tolerance_change=0.0,
                      tolerance_ys=0.0, max_iter=6, deterministic=True)  # fmt: skip
    for _ in range(steps):
        program = objective.descent(x, y, None, parameters) if kernels else None
        assert (program is not None) == kernels
        if program is None:
            optimizer.step(lambda: objective.with_gradient(x, y))
        else:
            optimizer.iterate(program)
    return torch.cat([p.detach().reshape(-1) for p in parameters]), optimizer


@pytest.mark.parametrize("lamb", [0.0, 0.01])
def test_iterations_of_lbfgs_are_those_of_the_loop_in_python(lamb: float) -> None:
    """More iterations than the memory has pairs, so that the oldest leave."""
    x = uniform(120, 2, seed=1)
    y = labels(x, 1)
    found = [trained_by(KAN([2, 3, 1], seed=1, auto_save=False), x, y, kernels, lamb, 2) for kernels in (True, False)]
    (ours, fast), (theirs, slow) = found
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    states = [optimizer.state[optimizer.param_groups[0]["params"][0]] for optimizer in (fast, slow)]
    for name in ("n_iter", "func_evals"):
        assert states[0][name] == states[1][name]
    assert fast.known_loss == pytest.approx(slow.known_loss, rel=1e-10)
    plain = [optimizer.plain_state() for optimizer in (fast, slow)]
    assert plain[0]["spare"] == plain[1]["spare"] and torch.equal(plain[0]["order"], plain[1]["order"])
    for name in ("d", "yy", "r_inverse", "pairs"):
        torch.testing.assert_close(plain[0][name], plain[1][name], rtol=1e-5, atol=1e-6 * float(plain[1][name].abs().max()))


def test_the_gradients_after_the_iterations_are_those_at_the_end() -> None:
    x = uniform(80, 2, seed=1)
    y = labels(x, 1)
    network = KAN([2, 3, 1], seed=1, auto_save=False)
    trained_by(network, x, y, True, 0.0, 1)
    after = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None and p.requires_grad}
    objective_of(network).with_gradient(x, y)
    for name, p in network.named_parameters():
        if p.requires_grad and p.grad is not None:
            torch.testing.assert_close(p.grad, after[name], rtol=0, atol=1e-12)


def test_iterations_of_many_samples_are_left_to_the_loop_which_can_be_interrupted() -> None:
    network = KAN([2, 5, 1], seed=1, auto_save=False)
    x = uniform(200_000, 2, seed=1)
    parameters = [p for p in network.parameters() if p.requires_grad]
    assert objective_of(network).descent(x, labels(x, 1), None, parameters) is None


@pytest.mark.parametrize("width", [[2, 5, 1], [3, [2, 1], 2], [2, 1]], ids=str)
@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_normal_equations(width: list[Any], k: int, weighted: bool) -> None:
    network = wild(width, seed=2, grid=4, k=k)
    x = uniform(400, width[0], low=-1.3, high=1.3, seed=5)
    y = labels(x, width[-1])
    weight = proportions(400, seed=4) if weighted else None
    trained = [p for layer in network.numeric_layers for p in (layer.coef, layer.scale_base)]
    problem = NetworkProblem(plain_objective(network, None), Columns(network, trained), x, y, weight=weight)
    known = problem._sum
    assert known is not None
    gram, total = known.normal_equations() or pytest.fail("the kernels have not been asked")
    expected_gram, expected_total = BACK_END.normal_equations(problem._chunks(), problem.columns.count)
    torch.testing.assert_close(gram, expected_gram, rtol=0, atol=1e-12 * float(expected_gram.abs().max()))
    torch.testing.assert_close(total, expected_total, rtol=0, atol=1e-12 * float(expected_total.abs().max()))
    with switched(False):
        assert known.value() is None
        value = problem.value_alone()
    assert known.value() == pytest.approx(value, rel=1e-13)


def test_normal_equations_are_not_for_trained_maps() -> None:
    network = wild([2, 3, 1], seed=2, affine_trainable=True)
    x = uniform(400, 2, seed=5)
    assert NetworkProblem(plain_objective(network, None), Columns(network, trainable_parameters(network)), x, labels(x, 1))._sum is None
