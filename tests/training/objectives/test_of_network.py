"""The objective: penalty formulas, golden numbers, and the closed form against the composition."""

import dataclasses
import re
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kan.analysis.attribution import attribute
from kan.datasets.synthetic import create_dataset
from kan.kernels import library
from kan.layers.features import Features
from kan.network.network import Network
from kan.training.objectives import closed_form
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import METRICS, Penalty, regularization
from tests.data import wild
from tests.networks import networks
from tests.reference import penalty as by_hand

pytestmark = pytest.mark.usefixtures("float64")


def data(inputs: int = 2, outputs: int = 1, batch: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, inputs, generator=generator, dtype=torch.float64) * 2.2 - 1.1
    return x, torch.sin(3 * x[:, :1]) + torch.randn(batch, outputs, generator=generator, dtype=torch.float64) * 0.1


@torch.no_grad()
def gradients(total: Tensor, network: Network, **options: object) -> list[Tensor]:
    parameters = [p for p in network.parameters() if p.requires_grad]
    return list(torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True, **options))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("width", [[2, 3, 1], [2, [1, 1], 2]])
def test_penalty_is_the_formula_of_its_scores(metric: str, width: list) -> None:
    network, (x, _) = wild(width), data()
    trace = network.trace(x)
    scores = {
        "edge_forward_spline_n": trace.acts_scale_spline,
        "edge_forward_sum": trace.acts_scale,
        "edge_forward_spline_u": trace.edge_actscale,
        "edge_backward": attribute(trace).edge_scores,
        "node_backward": METRICS["node_backward"](trace),
    }[metric]
    weights = Penalty(metric, 0.7, 1.9, 0.3, 0.4)
    expected = sum(by_hand.sparsity(v.detach().numpy(), 0.7, 1.9) for v in scores)
    expected += sum(by_hand.coefficients(layer.coef.detach().numpy(), 0.3, 0.4) for layer in network.numeric_layers)
    found = regularization(network, trace, weights)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    assert any(bool(g.any()) for g in gradients(found, network))


def test_golden_penalties() -> None:
    # Section 24 of the interface's description: KAN([2, 3, 1]) with its default seed, float32, weights (1, 2, 0, 0).
    torch.set_default_dtype(torch.float32)
    try:
        dataset = create_dataset(lambda x: torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2), n_var=2)
        network = Network([2, 3, 1])
        trace = network.trace(dataset["train_input"])
        found = {metric: regularization(network, trace, Penalty(metric)).item() for metric in METRICS}
        scores = attribute(trace).node_scores[0]
    finally:
        torch.set_default_dtype(torch.float64)
    golden = {
        "edge_forward_spline_n": 6.357,
        "edge_forward_sum": 6.357,
        "edge_forward_spline_u": 4.2465,
        "edge_backward": 11.331,
        "node_backward": 11.597,
    }
    assert found == pytest.approx(golden, abs=6e-4)
    torch.testing.assert_close(scores.detach(), torch.tensor([0.9439, 1.4241]).float(), rtol=0, atol=1e-4)


def loss_by_weight(output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    each = (output - y).abs().pow(3).mean(1)
    return each.mean() if weight is None else weight @ each


@settings(deadline=None, max_examples=40)
@given(
    networks(),
    st.sampled_from([0.0, 1e-2]),
    st.sampled_from([0.0, 1e-3]),
    st.sampled_from([Penalty(), Penalty(lamb_l1=0.3, lamb_coef=0.2, lamb_coefdiff=0.1)]),
    st.booleans(),
    st.sampled_from([nn.functional.mse_loss, loss_by_weight]),
    st.booleans(),
    st.booleans(),
    st.integers(2, 30),
)
def test_closed_form_is_the_composition(
    network: Network, lamb: float, corner: float, penalty: Penalty, cached: bool, loss: Any, weighted: bool, guarded: bool, batch: int
) -> None:
    x, y = data(network.width_in[0], network.width_in[-1], batch, batch)
    with torch.no_grad():
        seen = network.trace(x)
        deviations = torch.cat([scale.flatten() for scale in seen.edge_actscale] + [acts.std(0) for acts in seen.acts])
    assume(not bool(((deviations > 0) & (deviations < 1e-9)).any()))  # what is constant but for rounding has no direction
    assume(bool(deviations.isfinite().all()) and float(deviations.max()) < 1e6)
    first = network.first_layer(x) if cached else None
    weight = torch.linspace(0, 1, batch) if weighted else None
    objective = Objective(network, loss, lamb, penalty, guarded, 5.0, corner=corner)
    closed, composed = objective(x, y, first, weight), objective.composed(x, y, first, weight)
    assert objective.closed_form is not None
    for one, other in zip(closed, composed, strict=True):
        assert one.item() == pytest.approx(other.item(), rel=1e-12, abs=1e-12)
    expected = gradients(composed[0], network)
    size = max([float(g.abs().max()) for g in expected] + [1e-3])
    torch.testing.assert_close(gradients(closed[0], network), expected, rtol=1e-10, atol=1e-12 * size)

    total = objective.with_gradient(x, y, first, weight)
    assert total.item() == closed[0].item() and not total.requires_grad
    kept = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters() if p.requires_grad]
    torch.testing.assert_close(kept, expected, rtol=1e-10, atol=1e-12 * size)
    assert not any(g.is_inference() for g in kept)
    with torch.no_grad():
        torch.testing.assert_close(objective.predict(x), network.trace(x, **objective.guard._asdict()).last_nodes, rtol=1e-12, atol=1e-12)


def test_closed_form_with_any_loss_and_with_maps_that_are_not_trained() -> None:
    network, (x, y) = wild([2, 3, 1]), data()
    for p in (*network.node_bias, *network.subnode_scale):
        p.data.copy_(torch.linspace(0.5, 1.5, len(p)))
    for loss in (nn.functional.l1_loss, lambda output, y: ((output - y) ** 4).mean()):
        objective = Objective(network, loss, 1e-2, Penalty(), corner=1e-3)
        plain, composed = objective(x, y), objective.composed(x, y)
        assert objective.closed_form is not None
        torch.testing.assert_close(plain, composed, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(gradients(plain[0], network), gradients(composed[0], network), rtol=1e-8, atol=1e-8)
        with torch.no_grad():
            torch.testing.assert_close(objective(x, y), composed, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("lamb", [0.0, 0.3])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("batch", [40, 41, 57])
def test_a_large_batch_is_taken_in_parts(lamb: float, cached: bool, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library._Switch, "on", False)  # the compiled kernels have tiles of their own
    network, (x, y) = wild([3, 4, 3, 2]), data(3, 2, batch)
    x[:, 1] += 1e3 * torch.linspace(1, 2, batch)  # a mean far from zero and from that of the first part
    objective = Objective(network, nn.functional.mse_loss, lamb, Penalty(), corner=1e-2)
    first = network.first_layer(x) if cached else None
    whole = objective.with_gradient(x, y, first), [p.grad for p in network.parameters()]

    monkeypatch.setattr(closed_form, "MAX_KEPT_FEATURES", 0)
    widest = max(layer.in_dim * (layer.num + layer.k + 1) for layer in network.numeric_layers)
    monkeypatch.setattr(closed_form, "FEATURES_PER_PART", 8 * widest)
    widths: list[int] = []
    at = Features.at.__func__
    monkeypatch.setattr(
        Features, "at", classmethod(lambda cls, h, *args, **options: (widths.append(h.shape[1]), at(cls, h, *args, **options))[1])
    )
    parts = objective.with_gradient(x, y, first), [p.grad for p in network.parameters()]
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-10)
    assert max(widths) == 8


def test_weights_of_samples_count_as_repetitions() -> None:
    network, (x, y) = wild([2, 3, 2]), data(outputs=2, batch=6)
    weight = torch.tensor([1.0, 2.0, 0.0, 3.0, 1.0, 1.0])
    repeated = torch.repeat_interleave(torch.arange(6), weight.long())
    objective = Objective(network, nn.functional.mse_loss, 0.0, Penalty())
    expected = objective.with_gradient(x[repeated], y[repeated]), [p.grad for p in network.parameters()]
    assert objective(x, y, None, weight)[0].item() == pytest.approx(expected[0].item())
    assert objective.composed(x, y, None, weight)[0].item() == pytest.approx(expected[0].item())
    torch.testing.assert_close((objective.with_gradient(x, y, None, weight), [p.grad for p in network.parameters()]), expected)


def test_a_loss_of_the_users_gets_the_weights() -> None:
    def loss(output: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return (weight[:, None] * (output - y).abs()).sum()

    network, (x, y) = wild([2, 1]), data(batch=5)
    objective, weight = Objective(network, loss, 0.0, Penalty()), torch.linspace(0, 1, 5)
    with torch.no_grad():
        assert objective(x, y, None, weight)[0].item() == pytest.approx(float(loss(network(x), y, weight)))


def test_second_derivatives_of_the_closed_form() -> None:
    network, (x, y) = wild([2, 2, 1]), data(batch=6)
    objective = Objective(network, nn.functional.mse_loss, 1e-2, Penalty(), corner=1e-2)
    direction = [torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) for p in network.parameters() if p.requires_grad]

    def product(total: Tensor) -> list[Tensor]:
        inner = sum((g * d).sum() for g, d in zip(gradients(total, network, create_graph=True), direction, strict=True))
        return gradients(inner, network)

    torch.testing.assert_close(product(objective(x, y)[0]), product(objective.composed(x, y)[0]), rtol=1e-9, atol=1e-9)


def test_the_closed_form_follows_changes_of_the_network() -> None:
    network, (x, y) = wild([2, 2, 1]), data()
    objective = Objective(network, nn.functional.mse_loss, 1e-2, Penalty())

    def check() -> None:
        assert objective.closed_form is not None
        torch.testing.assert_close(objective(x, y), objective.composed(x, y), rtol=1e-12, atol=1e-12)

    check()
    network.symbolic_layers[0].set_function(0, 0, "sin")
    network.symbolic_layers[0].mask.data[0, 0] = 1.0
    check()
    network.symbolic_layers[0].set_function(0, 0, "x^2")
    check()
    network.symbolic_layers[0].mask.data[0, 0] = 0.5
    check()
    network.symbolic_enabled = False
    check()
    with torch.no_grad():
        network.node_bias[0].add_(0.5)
    check()
    network.node_scale[1].requires_grad_()
    check()
    network.numeric_layers[1].mask.data.zero_()
    check()


@pytest.mark.parametrize("change", ["metric", "base", "function"])
def test_what_has_no_closed_form_is_composed(change: str) -> None:
    network, (x, y) = wild([2, 2, 1], base_fun=nn.PReLU(2) if change == "base" else "silu"), data()
    penalty = Penalty("edge_backward") if change == "metric" else Penalty()
    objective = Objective(network, nn.functional.mse_loss, 1e-2, penalty)
    if change == "function":
        network.symbolic_layers[0].fix_symbolic(0, 0, lambda u: u - u.mean(0))
        network.symbolic_layers[0].mask.data[0, 0] = 1.0
    assert objective.closed_form is None
    torch.testing.assert_close(objective(x, y), objective.composed(x, y), rtol=0, atol=0)
    total = objective.with_gradient(x, y)
    expected = gradients(objective.composed(x, y)[0], network)
    kept = [p.grad for p in network.parameters() if p.requires_grad]
    torch.testing.assert_close([torch.zeros_like(e) if g is None else g for g, e in zip(kept, expected, strict=True)], expected)
    assert not total.requires_grad


def test_parameters_that_are_frozen_get_no_gradient() -> None:
    network, (x, y) = wild([2, 2, 1], sp_trainable=False, sb_trainable=False), data()
    Objective(network, nn.functional.mse_loss, 1e-2, Penalty()).with_gradient(x, y)
    assert {name.split(".")[-1] for name, p in network.named_parameters() if p.grad is not None} == {"coef"}


def test_weight_zero_means_no_penalty() -> None:
    network, (x, y) = wild([2, 2, 1]), data()
    total, loss, penalty = Objective(network, nn.functional.mse_loss, 0.0, Penalty())(x, y)
    assert total.item() == loss.item() and penalty.item() == 0


def test_rounding_is_for_the_optimiser_alone() -> None:
    network, (x, y) = wild([2, 2, 1]), data()
    exact = Objective(network, nn.functional.mse_loss, 1e-2, Penalty())
    rounded = dataclasses.replace(exact, corner=1e-1)
    reported = regularization(network, network.trace(x), Penalty()).item()
    assert exact(x, y)[2].item() == pytest.approx(reported, rel=1e-12)
    assert rounded(x, y)[2].item() < reported - 1e-3


def test_unknown_metric() -> None:
    with pytest.raises(ValueError, match=re.escape("edge_forward_sum")):
        Penalty("edge_forward_sun")
