"""The perceptron: pykan's numbers, training by the same loop as KANs, penalties, order of nodes, pictures."""

import copy
import itertools
import pickle
import random
import re
from functools import partial
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from torch import Tensor, nn

from kan import KAN, LBFGS
from kan.MLP import MLP
from tests import data
from tests.reference.penalty import sparsity

matplotlib.use("Agg")

uniform = partial(data.uniform, dtype=None)  # pykan computes in single precision


def product(count: int = 50) -> dict[str, Tensor]:
    x = uniform(count, 2)
    y = x[:, [0]] * x[:, [1]]
    return {"train_input": x, "train_label": y, "test_input": x[:20], "test_label": y[:20]}


def seen(width: list[int], seed: int = 0, samples: int = 20, **options: Any) -> MLP:
    model = MLP(width, seed=seed, **options)
    model(uniform(samples, width[0]))
    return model


def test_pykans_numbers() -> None:
    model = MLP([2, 4, 3, 1], seed=5)
    assert list(model.state_dict()) == [f"linears.{l}.{name}" for l in range(3) for name in ("weight", "bias")]
    torch.testing.assert_close(model.w[0][0], torch.tensor([0.46704668, -0.52875900]))
    torch.testing.assert_close(model.linears[1].bias, torch.tensor([0.47516131, -0.40965575, 0.02732533]))
    torch.testing.assert_close(model.w[2][0], torch.tensor([0.20713733, -0.27264711, -0.12632854]))
    output = model(uniform(20, 2))
    torch.testing.assert_close(output[:3, 0], torch.tensor([-0.24498183, -0.25977439, -0.25830060]))
    assert [tuple(a.shape) for a in model.acts or []] == [(20, 2), (20, 4), (20, 3)]
    torch.testing.assert_close(model.acts_scale[0], torch.tensor([0.09054523, 0.34171751, 0.23109549, 0.13202448]))
    torch.testing.assert_close(model.acts_scale[2], torch.tensor([0.01787376]))
    torch.testing.assert_close(model.wa_forward[2][0], torch.tensor([0.00910692, -0.00986409, -0.00751920]))
    model.attribute()
    torch.testing.assert_close(model.node_scores[0], torch.tensor([2.10738540, 2.49711347]))
    torch.testing.assert_close(model.node_scores[1], torch.tensor([0.34980348, 0.56990385, 0.82734442, 0.35319799]))
    torch.testing.assert_close(model.wa_backward[1][0], torch.tensor([0.25701764, 0.36146083, 0.32984781, 0.06952657]))
    for metric, expected in {"w": 21.87002, "act": 10.8167229, "fa": 26.8956528, "a": 4.9395971}.items():
        assert abs(float(model.reg(metric, 1.0, 2.0).detach()) - expected) < 2e-5
        assert torch.equal(model.get_reg(metric, 1.0, 2.0), model.reg(metric, 1.0, 2.0))
    assert abs(float(model.connection_cost.detach()) - 2.32592988) < 1e-6
    model.auto_swap()
    assert abs(float(model.connection_cost.detach()) - 2.28605819) < 1e-6
    torch.testing.assert_close(model.w[1][0], torch.tensor([0.15933895, -0.42758781, 0.21500576, 0.07932758]))


@given(width=st.lists(st.integers(1, 5), min_size=2, max_size=4), samples=st.integers(1, 6), act=st.sampled_from(["silu", "tanh", "relu"]))
@settings(deadline=None, max_examples=20)
def test_the_forward_pass(width: list[int], samples: int, act: str) -> None:
    model, x = MLP(width, act=act), uniform(samples, width[0])
    expected = x
    for l, linear in enumerate(model.linear_layers):
        expected = linear(expected if l == 0 else getattr(nn.functional, act)(expected))
    torch.testing.assert_close(model(x), expected)
    assert model.depth == len(width) - 1 and model.cache_data is not None and torch.equal(model.cache_data, x)
    for scores, n in zip(model.node_scores, width, strict=True):
        assert scores.shape == (n,) and bool(scores.isfinite().all())  # of a single sample too


def test_activation_functions() -> None:
    x = uniform(5, 2)
    silu, tanh, own = (MLP([2, 3, 1], act=act)(x) for act in ("silu", torch.tanh, nn.Tanh()))
    assert torch.equal(tanh, own) and torch.equal(tanh, MLP([2, 3, 1], act="tanh")(x)) and not torch.equal(tanh, silu)
    assert "act_fun.weight" in dict(MLP([2, 3, 1], act=nn.PReLU()).named_parameters())


def test_global_random_states_are_neither_read_nor_changed() -> None:
    torch.manual_seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index,union-attr]
    model = MLP([2, 3, 1], seed=4)
    model.fit(product(), steps=2, batch=10, log=0)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]  # type: ignore[index,union-attr]
    torch.rand(3)
    again = MLP([2, 3, 1], seed=4)
    again.fit(product(), steps=2, batch=10, log=0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not torch.equal(MLP([2, 3, 1], seed=5).w[0], MLP([2, 3, 1], seed=4).w[0])


def test_a_forward_pass_leaves_no_graph_behind() -> None:
    model = seen([2, 3, 1])
    x = uniform(4, 2)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))


@pytest.mark.parametrize("opt", ["LBFGS", "Adam"])
def test_fit(opt: str) -> None:
    data, model = product(), MLP([2, 5, 1])
    start = float((model(data["train_input"]) - data["train_label"]).detach().square().mean().sqrt())
    found = model.fit(data, opt=opt, steps=20, lr=1.0 if opt == "LBFGS" else 0.02, log=5)
    assert list(found) == ["train_loss", "test_loss", "reg"] and all(len(values) == 20 for values in found.values())
    assert found["train_loss"][-1] < (0.01 if opt == "LBFGS" else start)
    with torch.no_grad():
        error = (model(data["test_input"]) - data["test_label"]).square().mean().sqrt()
    assert abs(found["test_loss"][-1] - float(error)) < 1e-6
    assert found["reg"] == [0.0] * 20


def test_pykans_fit() -> None:
    # After ten steps of Adam nothing is chaotic yet; pykan notes the training error before the step, we after it.
    found = MLP([2, 5, 1]).fit(product(), opt="Adam", lr=0.01, steps=10, log=0)
    assert abs(found["test_loss"][-1] - 0.3151225) < 1e-5 and abs(found["train_loss"][-2] - 0.3509370) < 1e-5


def test_a_fit_may_have_another_loss_batches_and_metrics() -> None:
    data, model = product(), MLP([2, 5, 1])

    def largest() -> Tensor:
        return model.w[0].abs().max()

    found = model.fit(data, opt="Adam", lr=0.01, steps=3, batch=10, loss_fn=nn.functional.l1_loss, metrics=[largest], log=0)
    assert found["largest"][-1] == float(model.w[0].detach().abs().max())
    with torch.no_grad():
        assert abs(found["test_loss"][-1] - float(nn.functional.l1_loss(model(data["test_input"]), data["test_label"]))) < 1e-6


@pytest.mark.parametrize("metric", ["w", "act", "fa", "a"])
@pytest.mark.parametrize("opt", ["LBFGS", "Adam"])
def test_a_penalty_lowers_what_it_is_taken_of(opt: str, metric: str) -> None:
    data = product()
    reg = {}
    for lamb in (1e-6, 0.1):
        found = MLP([2, 5, 1]).fit(data, opt=opt, steps=15, lr=1.0 if opt == "LBFGS" else 0.02, lamb=lamb, reg_metric=metric, log=0)
        reg[lamb] = found["reg"][-1]
    assert reg[0.1] < 0.8 * reg[1e-6]


@pytest.mark.usefixtures("float64")
def test_the_penalty_is_that_of_kans() -> None:
    model = seen([3, 4, 2])
    expected = sum(sparsity(w.detach().abs().numpy(), 0.7, 1.5) for w in model.w)
    assert abs(float(model.reg("w", 0.7, 1.5).detach()) - expected) < 1e-12
    share = [scale / (scale.sum() + 1) for scale in model.acts_scale]
    plain = sum(0.7 * s.sum() - 1.5 * (p * (p + 1e-4).log2()).sum() for s, p in zip(model.acts_scale, share, strict=True))
    torch.testing.assert_close(model.reg("a", 0.7, 1.5), plain)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("metric", ["w", "act", "fa", "a"])
def test_penalties_have_gradients(metric: str) -> None:
    model = seen([2, 3, 1])
    model.reg(metric).backward()
    grad, step = model.w[0].grad, 1e-6
    assert grad is not None
    for j, i in itertools.product(range(3), range(2)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                model.w[0][j, i] += sign * step
                values.append(float(model.reg(metric)))
                model.w[0][j, i] -= sign * step
        assert abs((values[0] - values[1]) / (2 * step) - float(grad[j, i])) < 1e-5


def test_the_optimiser_as_notebooks_call_it() -> None:
    data, model = product(), MLP([2, 5, 1])
    optimizer = LBFGS(
        model.parameters(), lr=1, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-32, tolerance_change=1e-32,
        tolerance_ys=1e-32,
    )  # fmt: skip
    losses: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(data["train_input"]) - data["train_label"]).square().mean()
        loss.backward()
        losses.append(loss.item())
        return loss

    state = torch.get_rng_state()
    for _ in range(5):
        start = len(losses)
        first = optimizer.step(closure)
        assert first.item() == losses[start]
    assert min(losses) < 1e-3 < losses[0] and torch.equal(torch.get_rng_state(), state)


def test_swapping_leaves_the_function_alone() -> None:
    model, x = MLP([3, 5, 4, 2]), uniform(10, 3)
    before, rows = model(x), model.w[1].detach().clone()
    model.swap(2, 0, 3)
    torch.testing.assert_close(model(x), before)
    assert torch.equal(model.w[1], rows[[3, 1, 2, 0]])
    model.auto_swap()
    torch.testing.assert_close(model(x), before)


@given(width=st.lists(st.integers(1, 5), min_size=3, max_size=4), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=15)
def test_auto_swap_does_what_trying_every_exchange_does(width: list[int], seed: int) -> None:
    model = MLP(width, seed=seed).double()
    tried = copy.deepcopy(model)
    for l in range(1, len(width) - 1):
        model.auto_swap_l(l)
        for i in range(width[l]):
            costs = []
            for j in range(width[l]):
                tried.swap(l, i, j)
                costs.append(float(tried.connection_cost.detach()))
                tried.swap(l, i, j)
            best = int(np.argmin(costs))
            if costs[best] < costs[i] - 1e-9:
                tried.swap(l, i, best)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tried.parameters(), strict=True))


def test_connection_cost() -> None:
    model = MLP([2, 3, 1])
    expected = sum(
        abs(float(w[j, i])) * abs((j + 0.5) / w.shape[0] - (i + 0.5) / w.shape[1])
        for w in (w.detach() for w in model.w)
        for j, i in itertools.product(*map(range, w.shape))
    )
    assert abs(float(model.connection_cost.detach()) - expected) < 1e-6
    model.connection_cost.backward()
    assert all(w.grad is not None and bool(w.grad.any()) for w in model.w)


@pytest.mark.parametrize("metric", ["w", "act", "fa"])
def test_the_picture(metric: str) -> None:
    model = seen([2, 4, 3, 1])
    figure = model.plot(beta=2, scale=1.5, metric=metric)
    try:
        assert plt.gcf() is figure and figure.get_size_inches().tolist() == [4.5, 6.75]
        values = {"w": model.w, "act": model.wa_forward, "fa": model.edge_scores}[metric]
        lines = [artist for artist in figure.axes[0].collections if isinstance(artist, LineCollection)]
        for l, (collection, value) in enumerate(zip(lines, values, strict=True)):
            for k, (j, i) in enumerate(itertools.product(*map(range, value.shape))):
                segment, (red, _, blue, opacity) = collection.get_segments()[k], collection.get_colors()[k]
                place = [[(i + 0.5) / value.shape[1], l / 2], [(j + 0.5) / value.shape[0], (l + 1) / 2]]
                np.testing.assert_allclose(segment, place)
                assert (blue, red) == ((1, 0) if value[j, i] > 0 else (0, 1))
                assert abs(opacity - np.tanh(2 * abs(float(value[j, i].detach())))) < 1e-6
    finally:
        plt.close(figure)


def test_the_tree() -> None:
    axes = seen([2, 3, 1]).tree()
    assert len(axes.texts) > 0
    plt.close(axes.figure)


def test_get_act() -> None:
    model, data = MLP([2, 3, 1]), product()
    assert model.acts is None
    model.get_act(data)
    assert model.cache_data is not None and torch.equal(model.cache_data, data["train_input"])
    model.get_act(data["test_input"])
    assert len((model.acts or [])[0]) == 20


def test_dtypes() -> None:
    model = MLP([2, 3, 1]).double()
    assert model.dtype == torch.float64 and model(uniform(3, 2).float()).dtype == torch.float64
    model.fit(product(), steps=1, log=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": [2]}, "width must be the numbers of nodes of at least two layers, such as [2, 5, 1]; got [2]."),
        ({"width": [2, 0, 1]}, "got [2, 0, 1]."),
        ({"width": [2, [3, 1], 1]}, "got [2, [3, 1], 1]."),
        ({"width": [2, 1], "act": "sliu"}, "unknown activation function 'sliu'; did you mean 'silu'"),
    ],
)
def test_bad_structure(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MLP(**options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"opt": "lbfgs2"}, "unknown optimiser 'lbfgs2'; did you mean 'LBFGS'?"),
        ({"steps": -1}, "steps must be an integer of at least 0; got -1."),
        ({"batch": 0}, "batch must be a positive number of samples, or -1 for all of them; got 0."),
        ({"lamb": -1.0}, "lamb must not be negative; got -1.0."),
        ({"reg_metric": "edge_backward"}, "unknown reg_metric 'edge_backward'"),
        ({"display_metrics": ["acc"]}, "unknown metric in display_metrics 'acc'"),
        ({"dataset": {"train_input": torch.zeros(2, 2)}}, "the dataset must have the entries"),
        ({"dataset": {**product(), "train_label": torch.zeros(50)}}, "Use label[:, None] to make a column of it."),
    ],
)
def test_fit_refuses_as_kans_do(arguments: dict[str, Any], message: str) -> None:
    model = MLP([2, 3, 1])
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=re.escape(message)):
        model.fit(**{"dataset": product(), **arguments})
    if "reg_metric" not in arguments:
        with pytest.raises(ValueError, match=re.escape(message)):
            KAN([2, 3, 1], auto_save=False).fit(**{"dataset": product(), **arguments})
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_other_errors() -> None:
    model = MLP([2, 3, 1])
    for use in (model.attribute, model.get_act, lambda: model.reg("act"), lambda: model.plot(metric="fa"), model.tree):
        with pytest.raises(ValueError, match=re.escape("the model hasn't seen any data yet: call model(x) or model.fit(dataset) first.")):
            use()
    with pytest.raises(ValueError, match=re.escape("the input must have the shape (number of samples, 2)")):
        model(torch.zeros(3))
    with pytest.raises(TypeError, match=re.escape("the input must be a tensor of floating-point numbers; got torch.complex64.")):
        model(torch.zeros(3, 2, dtype=torch.complex64))
    assert model.cache_data is None
    with pytest.raises(ValueError, match="unknown metric 'weights'"):
        model.plot(metric="weights")
    with pytest.raises(ValueError, match=re.escape("scale must be positive; got 0.")):
        model.plot(scale=0)
    for l in (0, 2):
        with pytest.raises(IndexError, match=re.escape(f"the layers of this network that are hidden: 1 to 1; got {l}.")):
            model.swap(l, 0, 0)
        with pytest.raises(IndexError, match="only nodes of hidden layers can be exchanged"):
            model.auto_swap_l(l)
    with pytest.raises(IndexError, match=re.escape("layer 1 has the nodes 0 to 2; got 0 and 3.")):
        model.swap(1, 0, 3)


def test_attributes_that_pykan_has() -> None:
    model = seen([2, 3, 1])
    assert model.a_forward == [] and model.depth == 2 and model.width == [2, 3, 1] and model.save_act
    assert isinstance(model.act_fun, torch.nn.SiLU) and model.cache_data is not None
