"""Levenberg-Marquardt in a fit: precision, formats, what is trained and what is left alone, grids, states."""

import pytest
import torch
from torch import Tensor, nn

from kan import KAN
from kan.network.network import Network
from kan.training.fit import fit
from kan.training.methods.lm import LMStepper
from kan.training.models.of_network import trainable_parameters
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import Penalty
from kan.training.options import FitOptions

pytestmark = pytest.mark.usefixtures("float64")


def data(count: int = 200, inputs: int = 2, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x = (torch.rand(count, inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1).to(dtype)
    return x, torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [-1]] ** 2)


def stepper(network: Network, lamb: float = 0.0, loss=nn.functional.mse_loss) -> LMStepper:
    return LMStepper(Objective(network, loss, lamb, Penalty(), corner=1e-2), trainable_parameters(network))


def test_a_network_that_holds_the_truth_finds_it_to_round_off() -> None:
    truth, network, (x, _) = Network([2, 2], grid=6, seed=1), Network([2, 2], grid=6), data(400)
    with torch.no_grad():
        for layer in truth.numeric_layers:
            layer.coef.add_(torch.randn(layer.coef.shape, generator=torch.Generator().manual_seed(0)))
        y = truth(x)
    history = fit(network, (x, y), FitOptions("LM", steps=40, progress=False))
    assert history["train_loss"][-1] < 1e-12 * float(y.std())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_trains_networks_in_any_format(dtype: torch.dtype) -> None:
    (x, y), network = data(dtype=dtype), Network([2, 2, 1], grid=4).to(dtype)
    history = fit(network, (x, y), FitOptions("LM", steps=25, progress=False))
    assert network.dtype == dtype and history["train_loss"][-1] < 2e-2
    with torch.no_grad():
        assert float((network(x) - y).square().mean().sqrt()) == pytest.approx(history["train_loss"][-1], rel=1e-3)


def test_float32_is_the_rounded_float64() -> None:
    x, y = data(dtype=torch.float32)
    one, other = Network([2, 2, 1]).float(), Network([2, 2, 1]).float()
    fit(one, (x, y), FitOptions("LM", steps=8, progress=False))
    other.double()
    fit(other, (x.double(), y.double()), FitOptions("LM", steps=8, progress=False))
    with torch.no_grad():
        torch.testing.assert_close(one(x), other(x.double()).float(), rtol=1e-4, atol=1e-4)


def test_what_is_masked_or_frozen_stays(capsys: pytest.CaptureFixture[str]) -> None:
    model, (x, y) = KAN([2, 2, 1], auto_save=False), data()
    model.act_fun[0].mask.data[0, 1] = 0.0
    model.act_fun[1].coef.requires_grad_(False)
    kept = model.act_fun[0].coef.detach()[0, 1].clone(), model.act_fun[1].coef.detach().clone()
    model.fit((x, y), opt="LM", steps=5, update_grid=False, progress=False)
    assert torch.equal(model.act_fun[0].coef.detach()[0, 1], kept[0]) and torch.equal(model.act_fun[1].coef.detach(), kept[1])


def test_symbolic_edges_and_node_affines_are_trained_to_round_off(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data()
    model = KAN([2, 1, 1], auto_save=False, affine_trainable=True)
    model(x)
    for edge, name in (((0, 0, 0), "sin"), ((0, 1, 0), "x^2"), ((1, 0, 0), "exp")):
        model.fix_symbolic(*edge, name, fit_params_bool=False)
    with torch.no_grad():
        model.symbolic_fun[0].affine[0, 0] = torch.tensor([2.7, 0.2, 1.2, 0.1])
    history = model.fit((x, y), opt="LM", steps=60, progress=False)
    assert history["train_loss"][-1] < 1e-13


def test_splines_that_are_scaled_by_zero_are_woken() -> None:
    (x, y), network = data(), Network([2, 2, 1])
    with torch.no_grad():
        network.numeric_layers[0].scale_sp.zero_()
        before = network(x)
    step = stepper(network)
    step._prepared()
    with torch.no_grad():
        torch.testing.assert_close(network(x), before, rtol=0, atol=0)
    step.step(x, y, None, None)
    assert bool(network.numeric_layers[0].coef.detach().abs().sum() > 0)


def test_sparsity() -> None:
    (x, y), network = data(300), Network([2, 5, 1], grid=3)
    history = fit(network, (x, y), FitOptions("LM", steps=60, lamb=1e-2, penalty=Penalty(), progress=False))
    assert history["reg"][-1] < 0.6 * history["reg"][0] and history["train_loss"][-1] < 0.1
    scores = network.trace(x).acts_scale_spline[1].detach()
    assert int((scores > 1e-2 * scores.max()).sum()) <= 2


def test_more_parameters_than_samples() -> None:
    x, y = data(10)
    history = fit(Network([2, 5, 1]), (x, y), FitOptions("LM", steps=20, progress=False))
    assert history["train_loss"][-1] < 1e-10


def test_cross_entropy_and_weights() -> None:
    x, _ = data()
    labels = (x[:, 0] * x[:, 1] > 0).long()
    history = fit(Network([2, 3, 2]), (x, labels), FitOptions("LM", steps=15, loss_fn=nn.CrossEntropyLoss(), progress=False))
    assert history["train_loss"][-1] < 0.05 < history["train_loss"][0]

    x, y = data()
    y[:100] += 1.0
    weight = torch.cat([torch.full((100,), 1e-9), torch.ones(100)])
    network = Network([2, 2, 1], grid=5)
    fit(network, (x, y), FitOptions("LM", steps=60, sample_weight=weight, progress=False))
    with torch.no_grad():
        assert float((network(x) - y)[100:].square().mean()) < 0.02 < 0.5 < float((network(x) - y)[:100].square().mean())


def test_mini_batches_go_down() -> None:
    x, y = data(600)
    history = fit(Network([2, 2, 1]), (x, y), FitOptions("LM", steps=30, batch=200, progress=False))
    assert history["train_loss"][-1] < 0.1


def test_a_step_that_found_nothing_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, _), network = data(), Network([2, 1])
    with torch.no_grad():
        y = network(x)
    step, calls = stepper(network), []
    monkeypatch.setattr("kan.training.methods.lm.improve_", lambda *args: calls.append(args))
    step.assume_deterministic()
    for _ in range(3):
        step.step(x, y, None, None)
    assert len(calls) == 1 and step.known_loss is None
    step.reset()
    step.step(x, y, None, None)
    assert len(calls) == 2


def test_state_shrink_and_known_loss() -> None:
    (x, y), network = data(), Network([2, 2, 1])
    step = stepper(network)
    step.assume_deterministic()
    step.step(x, y, None, None)
    assert step.known_loss == pytest.approx(float(step.objective(x, y)[0].detach()))
    state = step.state_dict()
    other = stepper(network)
    other.load_state_dict(state)
    assert other.damping == step.damping and state.keys() == {"mu", "growth"}
    step.shrink()
    assert step.damping.mu == pytest.approx(1e3 * state["mu"]) and step.known_loss is None


def test_what_it_cannot_train() -> None:
    from kan.MLP import MLP

    x, y = data()
    with pytest.raises(ValueError, match="opt='LM' needs the structure of a KAN"):
        MLP([2, 3, 1]).fit((x, y), opt="LM", steps=1)
    with pytest.raises(ValueError, match="neither an MLP nor other predictions"):
        fit(Network([2, 1]), (x, y), FitOptions("LM", steps=1, pred_fn=lambda network, x: network(x), progress=False))
