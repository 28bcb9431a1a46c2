"""The model of a network's objective: against second derivatives where it is one, and a touching majorant where it is not."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kan.network.network import Network
from kan.solvers.levenberg_marquardt import Damping, Linearisation, improve_
from kan.surgery.edges import fix_symbolic_
from kan.training.least_squares import network_problem as gauss_newton
from kan.training.least_squares.coordinates import Columns
from kan.training.least_squares.network_problem import Anchor, NetworkProblem
from kan.training.least_squares.residual_side import ResidualSide
from kan.training.models.of_network import trainable_parameters
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import METRICS, Penalty
from tests.data import uniform
from tests.networks import drawn, networks, points, put_symbolic

pytestmark = pytest.mark.usefixtures("float64")


def problem(network: Network, x: Tensor, y: Tensor, loss=nn.functional.mse_loss, lamb: float = 0.0, **options: object) -> NetworkProblem:
    penalty = options.pop("penalty", Penalty())
    objective = Objective(network, loss, lamb, penalty, corner=1e-2)
    return NetworkProblem(objective, Columns(network, trainable_parameters(network)), x, y, **options)


def derivatives(p: NetworkProblem) -> tuple[Tensor, Tensor]:
    """Gradient and second derivatives of the objective in the coordinates, by autograd."""
    p.objective.with_gradient(p.x, p.y, p.first, p.weight)
    gradient, columns = p.columns.gradient(), []
    for c in range(p.columns.count):
        unit = torch.zeros(p.columns.count)
        unit[c] = 1e-5
        sides = []
        for sign in (1, -2):
            p.move_(sign * unit)
            p.objective.with_gradient(p.x, p.y, p.first, p.weight)
            sides.append(p.columns.gradient())
        p.move_(unit)
        columns.append((sides[0] - sides[1]) / 2e-5)
    return gradient, torch.stack(columns)


def matrix(p: NetworkProblem) -> Tensor:
    """``A + P``."""
    return p.linearise()._gram


def test_least_squares_of_one_layer_is_solved_by_one_step() -> None:
    network, x, y = Network([2, 2], grid=3), uniform(60, 2), uniform(60, 2, seed=1)
    p = problem(network, x, y)
    gradient, hessian = derivatives(p)
    model = p.linearise()
    torch.testing.assert_close(model.gradient, gradient)
    torch.testing.assert_close(model._gram, hessian, rtol=1e-4, atol=1e-7)
    improve_(p, Damping(mu=1e-13))
    assert float(derivatives(p)[0].norm()) < 1e-9


@pytest.mark.parametrize("weighted", [False, True])
def test_generalised_gauss_newton_of_one_layer_is_exact(weighted: bool) -> None:
    def cross_entropy(output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        each = nn.functional.cross_entropy(output, y, reduction="none")
        return each.mean() if weight is None else weight @ each / weight.sum()

    network, x = Network([2, 3], grid=2), uniform(20, 2)
    y = torch.arange(20) % 3
    p = problem(network, x, y, cross_entropy, weight=torch.linspace(0, 1, 20) if weighted else None)
    gradient, hessian = derivatives(p)
    model = p.linearise()
    torch.testing.assert_close(model.gradient, gradient)
    torch.testing.assert_close(model._gram, hessian, rtol=1e-4, atol=1e-7)


def test_poisson_and_absolute_losses_go_down() -> None:
    network, x = Network([2, 2, 1], grid=3), uniform(40, 2)
    for loss, y in ((nn.functional.poisson_nll_loss, (x[:, [0]] * 3 + 3).round()), (nn.functional.smooth_l1_loss, x[:, [0]] ** 2)):
        p, damping = problem(network, x, y, loss), Damping()
        before = p.value()
        for _ in range(5):
            improve_(p, damping)
        assert p.value() < before - 1e-3


@pytest.mark.parametrize("metric", METRICS)
def test_the_penalty_lies_below_its_parabola(metric: str) -> None:
    # One layer, so that no deviation depends on other weights, and no entropy, which is not convex.
    network, x = Network([3, 2], grid=3), uniform(50, 3)
    weights = Penalty(metric, lamb_l1=1.0, lamb_entropy=0.0, lamb_coef=0.3, lamb_coefdiff=0.2)
    nothing = lambda output, y: output.sum() * 0.0  # noqa: E731
    p = problem(network, x, x[:, :2], nothing, lamb=0.7, penalty=weights)
    gradient, _ = derivatives(p)
    model, here = p.linearise(), p.value()
    torch.testing.assert_close(model.gradient, gradient)
    if metric.endswith("backward"):  # shares of a sum: no majorant, but the model must go down
        assert improve_(p, Damping()) < here
        return
    for seed in range(30):
        step = torch.randn(p.columns.count, generator=torch.Generator().manual_seed(seed)) * 10.0 ** (seed % 5 - 2)
        p.move_(step)
        above = here + float(gradient @ step + step @ model._gram @ step / 2)
        assert p.value() <= above + 1e-3  # coefficients near zero are rounded
        p.move_(-step)


@pytest.mark.parametrize("metric", METRICS)
def test_sparsity_goes_down_with_every_metric(metric: str) -> None:
    network, x = Network([2, [2, 1], 1], grid=3), uniform(60, 2)
    network(x)
    fix_symbolic_(network, (0, 0, 0), "sin", fit_params_bool=False)
    p, damping = problem(network, x, x[:, [0]] ** 2, lamb=1e-2, penalty=Penalty(metric)), Damping()
    values = [p.value()]
    for _ in range(15):
        new = improve_(p, damping)
        if new is None:
            break
        values.append(new)
    assert values[-1] < 0.6 * values[0] and values == sorted(values, reverse=True)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x, y = Network([2, 2, 2], grid=3), uniform(30, 2), uniform(30, 2, seed=1)
    weight = torch.linspace(0, 1, 30)
    for loss in (nn.functional.mse_loss, lambda output, y, weight: (weight[:, None] * (output - y) ** 4).sum()):
        whole = problem(network, x, y, loss, weight=weight, first=network.first_layer(x)).linearise()
        monkeypatch.setattr(gauss_newton, "MAX_JACOBIAN_ENTRIES", 7 * 2 * 80)
        p = problem(network, x, y, loss, weight=weight, first=network.first_layer(x))
        assert 2 < len(list(p._chunks())) < 30
        parts = p.linearise()
        monkeypatch.undo()
        torch.testing.assert_close((whole.gradient, whole._gram), (parts.gradient, parts._gram))


def test_weights_count_as_repetitions() -> None:
    network, x, y = Network([2, 2, 1], grid=2), uniform(6, 2), uniform(6, 1, seed=1)
    weight = torch.tensor([1.0, 2.0, 0.0, 3.0, 1.0, 1.0])
    often = torch.repeat_interleave(torch.arange(6), weight.long())
    one, other = problem(network, x, y, weight=weight).linearise(), problem(network, x[often], y[often]).linearise()
    torch.testing.assert_close(one.gradient, other.gradient)
    torch.testing.assert_close(one.step(1e-3), other.step(1e-3), rtol=1e-4, atol=1e-6)


def test_an_anchor_holds_what_the_samples_do_not() -> None:
    network, x = Network([1, 1], grid=20), uniform(200, 1).abs()  # nothing on the left half
    y, columns = torch.sin(3 * x), Columns(network, trainable_parameters(network))
    origin = columns.coordinates()
    anchor = Anchor(origin, 1.0)
    damping = Damping()
    for _ in range(10):
        improve_(problem(network, x, y, anchor=anchor), damping)
    moved = (columns.coordinates() - origin).abs()
    assert float(moved[1:8].max()) < 1e-3 < float(moved[15:].max())
    assert problem(network, x, y).value() < 1e-8
    assert anchor.share(0.5, 10) == pytest.approx(0.5 / (10 * gauss_newton.CORRECTION_VARIANCE))


def rows_of(p: NetworkProblem) -> tuple[Tensor, Tensor]:
    """The transposed Jacobian ``(P, K B)`` and the residuals of a single chunk."""
    ((rows, residuals),) = p._chunks()
    return rows, residuals


def by_autograd(p: NetworkProblem) -> tuple[Tensor, Tensor]:
    """The same, every entry of it by autograd."""
    network, count = p.objective.network, p.y.numel()
    nodes = network.trace(p.x, **p.objective.guard._asdict()).last_nodes.t()
    share = torch.full((len(p.x),), 1 / count) if p.weight is None else p.weight / (p.weight.sum() * len(nodes))
    residuals = ((nodes - p.y.t()) * share.sqrt()).flatten()
    blocks = p.columns.blocks
    rows = []
    for residual in residuals:
        grads = torch.autograd.grad(residual, [b.parameter for b in blocks], retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([b.entries(grad) / b.scale for b, grad in zip(blocks, grads, strict=True)]))
    return torch.stack(rows, 1), residuals.detach()


@settings(deadline=None, max_examples=40)
@given(networks(), st.booleans(), st.booleans(), st.booleans())
def test_the_jacobian_is_that_of_autograd(network: Network, cached: bool, guarded: bool, weighted: bool) -> None:
    x = points(network.width_in[0], 6)
    y = points(network.width_in[-1], 6, 1)
    columns = Columns(network, [p for p in network.parameters() if p.requires_grad])
    assume(columns.count > 0)
    objective = Objective(network, nn.functional.mse_loss, 0.0, Penalty(), guarded, 5.0)
    first, weight = network.first_layer(x) if cached else None, torch.linspace(0, 1, 6) if weighted else None
    found = rows_of(NetworkProblem(objective, columns, x, y, first, weight))
    expected = by_autograd(NetworkProblem(objective, columns, x, y, first, weight))
    assume(bool(expected[0].isfinite().all()))
    size = float(expected[0].abs().max()) + 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12 * size)


def test_autograd_gives_the_sensitivities_of_other_base_functions() -> None:
    network = drawn([3, [2, 1], 2], 3, symbolic=True, base_fun=nn.LayerNorm(3, elementwise_affine=False), grid=3, affine_trainable=True)
    network.numeric_layers[1].base_fun = nn.PReLU(3)
    x, y = points(3, 6), points(2, 6, 1)
    p = problem(network, x, y)
    assert p._form is None
    torch.testing.assert_close(rows_of(p), by_autograd(p), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", ["plain", "symbolic", "masked", "frozen"])
def test_steps_from_the_side_of_the_residuals(kind: str) -> None:
    network, x, y = Network([2, [2, 1], 2], grid=4, affine_trainable=kind == "plain"), points(2, 20), points(2, 20, 1)
    if kind == "symbolic":
        put_symbolic(network, 1, every=7)
    if kind == "masked":
        network.numeric_layers[0].mask.data[0, 1] = 0.0
    if kind == "frozen":
        network.numeric_layers[1].coef.requires_grad_(False)
    p = problem(network, x, y)
    ours, theirs = p.linearise(), p._linearised()
    assert isinstance(ours, ResidualSide) and isinstance(theirs, Linearisation)
    torch.testing.assert_close(ours.gradient, theirs.gradient, rtol=1e-11, atol=1e-13)
    assert ours.largest == pytest.approx(theirs.largest, rel=1e-12)
    for mu in (1e-3, 1.0):
        torch.testing.assert_close(ours.step(mu), theirs.step(mu), rtol=1e-7, atol=1e-9)
    mu = 1e-14 * ours.largest  # ill-conditioned
    torch.testing.assert_close(ours.step(mu), theirs.step(mu), rtol=1e-5, atol=1e-6)


def test_a_problem_notices_parameters_that_others_have_changed() -> None:
    network, x, y = Network([2, 2, 1], grid=3), points(2, 40), points(1, 40, 1)
    p = problem(network, x, y)
    p.linearise()
    p.remember_()
    network.numeric_layers[1].coef.data.mul_(2.0)
    p.refresh_()
    again = problem(network, x, y)
    assert p.value() == again.value() and torch.equal(p.linearise().gradient, again.linearise().gradient)
    columns = p.columns
    assert columns.is_current()
    network.numeric_layers[0].mask.data[0, 0] = 0.0
    assert not columns.is_current()
