"""Pruning gives a new network without what contributes nothing, and touches nothing else."""

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan import KAN
from kan.surgery import prune
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

OBEYED = pytest.mark.filterwarnings("ignore:prune(_node|_edge|_input)?. the outputs on the last input move:UserWarning")
"""For tests that give thresholds to networks which need what goes."""


@torch.no_grad()
def lively(model: KAN, seed: int = 0) -> KAN:
    """`model` with random splines on all edges, and random node affines."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.act_fun:
        layer.coef.copy_(torch.randn(layer.coef.shape, generator=generator))
    for name, parameter in model.named_parameters():
        if name.startswith(("node_", "subnode_")):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


@torch.no_grad()
def silence(model: KAN, l: int, i: int) -> None:
    """Let node `i` of hidden layer `l` contribute nothing, though its edges are on."""
    layer = model.act_fun[l]
    layer.coef[i] = 0.0
    layer.scale_base[i] = 0.0


def snapshot(model: KAN) -> dict[str, Any]:
    """All that pruning must leave alone."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "trained": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "names": [layer.funs_name for layer in model.symbolic_fun],
        "settings": model.settings(),
        "input": model.last_input,
        "training": model.training,
    }


def assert_untouched(model: KAN, before: dict[str, Any]) -> None:
    after = snapshot(model)
    assert after["state"].keys() == before["state"].keys()
    assert all(torch.equal(after["state"][name], value) for name, value in before["state"].items())
    for entry in ("trained", "names", "settings", "training"):
        assert after[entry] == before[entry], entry
    assert after["input"] is before["input"]


def outputs(model: KAN, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.trace(x).output


# What is dropped


@given(
    hidden=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    n_outputs=st.integers(1, 3),
    seed=st.integers(0, 2**16),
    chosen=st.data(),
)
@settings(deadline=None, max_examples=25)
def test_nodes_without_contribution_go_and_the_function_stays(hidden: list[int], n_outputs: int, seed: int, chosen: st.DataObject) -> None:
    model, x = lively(KAN([2, *hidden, n_outputs], seed=seed, auto_save=False), seed), uniform(200, 2, seed=seed)
    silent = [chosen.draw(st.sets(st.integers(0, size - 1), max_size=size - 1)) for size in hidden]
    for l, nodes in enumerate(silent, start=1):
        for i in nodes:
            silence(model, l, i)
    y = model(x).detach()
    before = snapshot(model)
    pruned = model.prune(node_th=1e-12, edge_th=0.0)
    assert pruned.width_in == [2, *(size - len(nodes) for size, nodes in zip(hidden, silent, strict=True)), n_outputs]
    torch.testing.assert_close(pruned(x), y, rtol=1e-12, atol=1e-12)
    assert_untouched(model, before)


def test_a_node_that_only_feeds_silent_nodes_goes_too() -> None:
    model, x = lively(KAN([2, 2, 2, 1], auto_save=False)), uniform(200, 2)
    silence(model, 2, 0)
    with torch.no_grad():
        model.act_fun[1].mask[1, 1] = 0.0  # node 1 of layer 1 leads to the silent node alone
    y = model(x).detach()
    pruned = model.prune(node_th=1e-12, edge_th=0.0)
    assert pruned.width_in == [2, 1, 1, 1]
    torch.testing.assert_close(pruned(x), y, rtol=1e-12, atol=1e-12)


def test_edges_without_contribution_are_masked_and_the_function_stays() -> None:
    model, x = lively(KAN([3, 4, 2], auto_save=False)), uniform(200, 3)
    dead = [(0, 0, 1), (0, 2, 3), (1, 3, 1)]
    with torch.no_grad():
        for l, i, j in dead:
            model.act_fun[l].scale_base[i, j] = 0.0
            model.act_fun[l].scale_sp[i, j] = 0.0
    y = model(x).detach()
    pruned = model.prune(node_th=0.0, edge_th=1e-12)
    assert pruned.width_in == [3, 4, 2]
    off = {(l, int(i), int(j)) for l, layer in enumerate(pruned.act_fun) for i, j in (layer.mask == 0).nonzero()}
    assert off == set(dead)
    torch.testing.assert_close(pruned(x), y, rtol=1e-12, atol=1e-12)


@OBEYED
@given(threshold=st.floats(1e-3, 0.3), hidden=st.integers(2, 8), n_outputs=st.integers(1, 3), seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=25)
def test_dropped_nodes_move_the_outputs_by_no_more_than_the_threshold(threshold: float, hidden: int, n_outputs: int, seed: int) -> None:
    # A node's score is the mean over the outputs of std(its edge)/(std(output) + 1e-4): that bounds what goes with it, constants apart.
    model, x = lively(KAN([2, hidden, n_outputs], affine_trainable=True, seed=seed, auto_save=False), seed), uniform(200, 2, seed=seed)
    with torch.no_grad():
        model.act_fun[1].scale_sp.mul_(10 ** -torch.linspace(0, 4, hidden)[:, None])
        model.act_fun[1].scale_base.mul_(10 ** -torch.linspace(0, 4, hidden)[:, None])
        for parameter in (model.node_scale[1], model.subnode_scale[1]):
            parameter.fill_(1.0)
    y = model(x).detach()
    pruned = model.prune_node(threshold)
    dropped = hidden - pruned.width_in[1]
    moved = (pruned(x).detach() - y).std(dim=0)
    allowed = dropped * threshold * n_outputs * (model.subnode_actscale[1] + 1e-4)
    assert bool((moved <= allowed + 1e-12).all()), (moved, allowed)


@OBEYED
@pytest.mark.parametrize("threshold", [0.01, 0.1, 0.3])
def test_dropped_edges_move_the_outputs_by_no_more_than_the_threshold(threshold: float) -> None:
    model, x = lively(KAN([2, 10, 1], auto_save=False)), uniform(200, 2)
    with torch.no_grad():
        model.act_fun[1].scale_sp.mul_(10 ** -torch.linspace(0, 4, 10)[:, None])
        model.act_fun[1].scale_base.mul_(10 ** -torch.linspace(0, 4, 10)[:, None])
        model.act_fun[0].mask.zero_()
        model.act_fun[0].mask[0] = 1.0
    y = model(x).detach()
    pruned = model.prune(node_th=0.0, edge_th=threshold)
    dropped = int((pruned.act_fun[1].mask == 0).sum())
    assert 0 < dropped < 10
    moved = (pruned(x).detach() - y).std()
    assert float(moved) <= dropped * threshold * (float(model.subnode_actscale[1]) + 1e-4)


def test_constants_that_go_are_held_by_the_biases() -> None:
    model, x = lively(KAN([2, 4, 2, 2], affine_trainable=True, auto_save=False)), uniform(200, 2)
    with torch.no_grad():
        model.act_fun[0].mask[:, 1:3] = 0.0  # two hidden nodes without inputs: they are constant, and so are the edges that they feed
    y = model(x).detach()
    pruned = model.prune(node_th=1e-12, edge_th=0.0)
    assert pruned.width_in == [2, 2, 2, 2]
    torch.testing.assert_close(pruned(x), y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pruned(uniform(200, 2, seed=5)), model(uniform(200, 2, seed=5)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("arity", [2, 3])
def test_constant_edges_of_factors_are_held_too(arity: int) -> None:
    model, x = lively(KAN([2, [1, 2], 1], mult_arity=arity, affine_trainable=True, auto_save=False)), uniform(200, 2)
    layer = model.act_fun[0]
    with torch.no_grad():  # the splines of a constant: equal coefficients
        layer.coef[0, 2] = 0.7
        layer.scale_base[0, 2] = 0.0
    y = model(x).detach()
    pruned = model.prune(node_th=0.0, edge_th=1e-6)  # scores of constants are round-off
    assert pruned.act_fun[0].mask[0, 2] == 0
    torch.testing.assert_close(pruned(x), y, rtol=1e-9, atol=1e-9)


@OBEYED
@pytest.mark.parametrize("threshold", [0.2, 0.3])
def test_outputs_keep_their_means(threshold: float) -> None:
    model, x = lively(KAN([2, 8, 2], affine_trainable=True, auto_save=False)), uniform(200, 2)
    y = model(x).detach()
    for pruned in (model.prune_node(threshold), model.prune_node(active_neurons_id=[[0, 3]])):
        assert pruned.width_in[1] < 8
        torch.testing.assert_close(pruned(x).mean(dim=0), y.mean(dim=0), rtol=1e-12, atol=1e-12)


# Inputs


def test_inputs_without_contribution_go_and_the_columns_stay(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = lively(KAN([4, 3, 1], auto_save=False)), uniform(200, 4)
    for i in (1, 3):
        silence(model, 0, i)
    y = model(x).detach()
    before = snapshot(model)
    pruned = model.prune_input(1e-12)
    assert capsys.readouterr().out == "keep: [True, False, True, False]\n"
    assert pruned.width_in == [2, 3, 1] and pruned.input_id.tolist() == [0, 2]
    torch.testing.assert_close(pruned(x), y, rtol=1e-12, atol=1e-12)
    assert_untouched(model, before)
    again = pruned.prune_input(active_inputs=[1])
    assert capsys.readouterr().out == "keep: [False, True]\n"
    assert again.input_id.tolist() == [2] and again(x).shape == (200, 1)
    assert again.refine(6).input_id.tolist() == again.prune_node(0.0).input_id.tolist() == again.copy().input_id.tolist() == [2]


@OBEYED
def test_inputs_are_judged_by_their_scores() -> None:
    model, x = lively(KAN([4, 3, 1], auto_save=False)), uniform(200, 4)
    y = model(x).detach()
    scores = model.feature_score.detach()
    pruned = model.prune_input(float(scores.median()))
    assert pruned.input_id.tolist() == (scores > scores.median()).nonzero()[:, 0].tolist()
    assert torch.equal(pruned.act_fun[0].coef, model.act_fun[0].coef[pruned.input_id])
    named = model.prune_input(active_inputs=[3, -4])
    assert named.input_id.tolist() == [0, 3]
    with pytest.raises(ValueError, match=r"would drop every input; the largest score is .* Choose a threshold below that, or give none"):
        model.prune_input(1000.0)
    for active in ([4], [], [-5]):
        with pytest.raises(ValueError, match="inputs"):
            model.prune_input(active_inputs=active)
    torch.testing.assert_close(model(x).detach(), y)


# Which go


@OBEYED
def test_thresholds_decide_by_the_scores() -> None:
    model, x = lively(KAN([2, 6, 1], auto_save=False)), uniform(200, 2)
    model(x)
    scores = model.node_scores[1].detach()
    for kept in range(1, 7):
        ordered = scores.sort(descending=True).values
        threshold = float(ordered[kept - 1 : kept + 1].mean()) if kept < 6 else 0.0  # between two scores, which rounding may move
        assert model.prune_node(threshold).width_in == [2, kept, 1]
    chosen = (scores > float(scores.median())).nonzero()[:, 0].tolist()
    pruned = model.prune_node(float(scores.median()))
    for name in ("coef", "scale_base", "scale_sp", "mask"):
        assert torch.equal(getattr(pruned.act_fun[0], name), getattr(model.act_fun[0], name)[:, chosen])
        assert torch.equal(getattr(pruned.act_fun[1], name), getattr(model.act_fun[1], name)[chosen])
    assert torch.equal(pruned.act_fun[1].grid, model.act_fun[1].grid[chosen])


@OBEYED
def test_edge_scores_are_computed_anew_after_the_nodes_are_gone() -> None:
    model, x = lively(KAN([2, 5, 5, 1], auto_save=False)), uniform(200, 2)
    model(x)
    node_th, edge_th = 0.15, 0.1
    by_hand = model.prune_node(node_th)
    assert by_hand.width_in != model.width_in
    by_hand(x)
    kept = [scores.t() > edge_th for scores in by_hand.edge_scores]
    pruned = model.prune(node_th, edge_th)
    for layer, expected in zip(pruned.act_fun, kept, strict=True):
        assert torch.equal(layer.mask, expected.double())


def test_nodes_by_name() -> None:
    model, x = lively(KAN([2, 4, 3, 1], auto_save=False)), uniform(200, 2)
    model(x)
    pruned = model.prune_node(active_neurons_id=[[2, 0], [-1]])
    assert pruned.width_in == [2, 2, 1, 1]
    assert torch.equal(pruned.act_fun[0].coef, model.act_fun[0].coef[:, [0, 2]])
    assert torch.equal(pruned.act_fun[1].coef, model.act_fun[1].coef[[0, 2]][:, [2]])
    assert torch.equal(pruned.act_fun[2].coef, model.act_fun[2].coef[[2]])


def test_prune_edge_works_in_place_and_keeps_symbolic_edges_and_fractional_masks() -> None:
    model, x = lively(KAN([2, 3, 1], auto_save=False)), uniform(200, 2)
    model(x)
    model.fix_symbolic(0, 0, 0, "x", fit_params_bool=False)
    model.set_mode(0, 1, 1, "sn", mask_n=0.5)
    with torch.no_grad():
        model.act_fun[0].scale_base[0, 2] = model.act_fun[0].scale_sp[0, 2] = 0.0
    assert model.prune_edge(1e-9) is None  # type: ignore[func-returns-value]
    assert model.act_fun[0].mask.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.5, 1.0]]
    assert model.symbolic_fun[0].mask.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]


# What comes along


def test_all_settings_come_along() -> None:
    model = KAN(
        [2, 4, 1], grid=[2, 4], k=[2, 3], base_fun=torch.tanh, grid_eps=0.3, sp_trainable=False, sb_trainable=False, seed=5,
        grid_range=[-2, 3], affine_trainable=True, noise_scale=0.1, scale_base_mu=0.2, scale_base_sigma=0.7, save_act=False,
        auto_save=False, ckpt_path="elsewhere",
    )  # fmt: skip
    lively(model)(uniform(200, 2))
    pruned = model.prune_node(active_neurons_id=[[1, 3]])
    assert pruned.settings() == {**model.settings(), "width": [[2, 0], [2, 0], [1, 0]]}
    assert pruned.base_fun is torch.tanh
    assert all(layer.base_fun is torch.tanh and layer.grid_eps == 0.3 for layer in pruned.act_fun)
    assert not any(p.requires_grad for n, p in pruned.named_parameters() if "scale_base" in n or "scale_sp" in n)
    assert all(p.requires_grad for n, p in pruned.named_parameters() if n.startswith(("node_", "subnode_")))


def test_symbolic_enabled_dtype_training_mode_and_frozen_parameters_come_along() -> None:
    model = KAN([2, 3, 1], symbolic_enabled=False, auto_save=False).float().eval()
    model(uniform(200, 2).float())
    model.act_fun[1].coef.requires_grad_(False)
    model.node_bias[0].requires_grad_(True)
    pruned = model.prune_node(active_neurons_id=[[0, 2]])
    assert not pruned.symbolic_enabled and pruned.dtype == torch.float32 and not pruned.training
    assert not pruned.act_fun[1].coef.requires_grad and pruned.act_fun[0].coef.requires_grad
    assert pruned.node_bias[0].requires_grad and not pruned.node_bias[1].requires_grad


@pytest.mark.parametrize(
    ("width", "arity", "keep", "arities", "pruned_width"),
    [
        ([2, [2, 2], 1], 3, [[1, 3]], ((), (3,), ()), [[2, 0], [1, 1], [1, 0]]),
        ([2, [1, 3], 1], [[], [2, 3, 4], []], [[0, 1, 3]], ((), (2, 4), ()), [[2, 0], [1, 2], [1, 0]]),
        ([2, [1, 3], 1], [[], [4, 3, 2], []], [[2]], ((), (3,), ()), [[2, 0], [0, 1], [1, 0]]),
        ([2, [2, 1], [1, 2], [0, 1]], [[], [1], [2, 3], [2]], [[0, 2], [2]], ((), (1,), (3,), (2,)), [[2, 0], [1, 1], [0, 1], [0, 1]]),
    ],
)
def test_mult_nodes_keep_their_factors(width: list[Any], arity: Any, keep: list[list[int]], arities: Any, pruned_width: list[Any]) -> None:
    model, x = lively(KAN(width, mult_arity=arity, affine_trainable=True, auto_save=False)), uniform(200, 2)
    for l, kept in enumerate(keep, start=1):
        for i in set(range(model.width_in[l])) - set(kept):
            silence(model, l, i)
    y = model(x).detach()
    pruned = model.prune_node(active_neurons_id=keep)
    assert pruned.width == pruned_width and pruned.structure.arities == arities
    torch.testing.assert_close(pruned(x), y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.prune(node_th=1e-12, edge_th=0.0)(x), y, rtol=1e-12, atol=1e-12)


def test_mult_nodes_can_be_pruned_again_refined_and_saved_again() -> None:
    model, x = lively(KAN([2, [1, 3], 1], mult_arity=[[], [2, 3, 4], []], auto_save=False)), uniform(200, 2)
    model(x)
    pruned = model.prune_node(active_neurons_id=[[0, 1, 3]])
    pruned(x)
    again = pruned.refine(6).prune_node(active_neurons_id=[[2]])
    assert again.width == [[2, 0], [0, 1], [1, 0]] and again.structure.arities == ((), (4,), ())


def test_symbolic_edges_and_affines_come_along() -> None:
    model, x = lively(KAN([2, 3, 1], affine_trainable=True, auto_save=False)), uniform(200, 2)
    model(x)
    model.fix_symbolic(0, 0, 2, "sin", verbose=False)
    model.fix_symbolic(0, 1, 2, torch.cos)
    model.fix_symbolic(1, 2, 0, "exp", verbose=False)
    silence(model, 1, 0)
    y = outputs(model, x)
    pruned = model.prune_node(active_neurons_id=[[1, 2]])
    assert pruned.symbolic_fun[0].funs_name == [["0", "0"], ["sin", "anonymous"]]
    assert pruned.symbolic_fun[1].funs_name == [["0", "exp"]]
    torch.testing.assert_close(outputs(pruned, x), y, rtol=1e-12, atol=1e-12)
    assert torch.equal(pruned.node_scale[0], model.node_scale[0][[1, 2]])


def test_the_new_network_shares_no_storage() -> None:
    model, x = lively(KAN([2, 3, 1], auto_save=False)), uniform(200, 2)
    model(x)
    before = snapshot(model)
    pruned = model.prune(node_th=0.0, edge_th=0.0)
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.add_(1.0)
    pruned.fix_symbolic(0, 0, 0, "sin", verbose=False)
    assert_untouched(model, before)


def test_a_pruned_network_remembers_the_data_and_trains() -> None:
    x = uniform(200, 2)
    y = x[:, [0]] ** 2
    model = lively(KAN([2, 4, 1], auto_save=False))
    model(x)
    pruned = model.prune_node(active_neurons_id=[[1, 2]])
    assert pruned.last_input is not None and torch.equal(pruned.last_input, x)
    start = float((outputs(pruned, x) - y).square().mean().sqrt())
    results = pruned.fit({"train_input": x, "train_label": y, "test_input": x, "test_label": y}, steps=2, log=-1)
    assert results["train_loss"][-1] < start


# What is refused


@OBEYED
def test_refuses_to_drop_every_node_of_a_layer() -> None:
    model, x = lively(KAN([2, 3, 1], auto_save=False)), uniform(200, 2)
    model(x)
    largest = float(model.node_scores[1].detach().max())
    before = snapshot(model)
    expected = rf"100 would drop every node of layer 1; its largest score is {largest:.3g}. Choose a threshold below that, or give"
    with pytest.raises(ValueError, match=expected):
        model.prune(node_th=100.0)
    with pytest.raises(ValueError, match=expected):
        model.prune_node(threshold=100.0)
    assert_untouched(model, before)
    assert model.prune(node_th=0.999 * largest, edge_th=0.0).width_in == [2, 1, 1]


def test_refuses_to_drop_every_edge_of_a_layer() -> None:
    model, x = lively(KAN([2, 3, 1], auto_save=False)), uniform(200, 2)
    model(x)
    before = snapshot(model)
    largest = float(model.edge_scores[0].detach().max())
    with pytest.raises(ValueError, match=rf"edge threshold 100 would drop every edge of layer 0; its largest score is {largest:.3g}"):
        model.prune(node_th=0.0, edge_th=100.0)
    with pytest.raises(ValueError, match="would drop every edge of layer 0"):
        model.prune_edge(100.0)
    assert_untouched(model, before)


def test_plot_mask_hides_nothing_after_a_prune_that_was_refused() -> None:
    model, x = lively(KAN([2, 3, 1], auto_save=False)), uniform(200, 2)
    silence(model, 1, 0)
    model(x)
    with pytest.raises(ValueError, match="would drop every edge"):
        model.prune(node_th=1e-12, edge_th=100.0)
    assert not model._pruned


def test_refuses_a_second_layer_and_leaves_the_first_alone() -> None:
    model, x = lively(KAN([2, 3, 1], auto_save=False)), uniform(200, 2)
    model(x)
    top, bottom = float(model.edge_scores[1].detach().max()), float(model.edge_scores[0].detach().max())
    with torch.no_grad():
        model.act_fun[1].mask.zero_()
        model.act_fun[1].mask[0] = 1.0
    before = snapshot(model)
    with pytest.raises(ValueError, match="would drop every edge of layer"):
        model.prune_edge(max(top, bottom, 1.0))
    assert_untouched(model, before)


def test_refuses_when_one_sample_says_nothing() -> None:
    model = KAN([2, 3, 1], auto_save=False)
    model(uniform(1, 2))
    with pytest.raises(ValueError, match="would drop every node of layer 1; its largest score is 0"):
        model.prune(node_th=1e-2)


@pytest.mark.parametrize("call", ["prune", "prune_node", "prune_edge"])
def test_needs_data(call: str) -> None:
    with pytest.raises(ValueError, match=r"hasn't seen any data yet: call model\(x\) or model.fit\(dataset\) first"):
        getattr(KAN([2, 3, 1], auto_save=False), call)()


@pytest.mark.parametrize(
    ("active", "message"),
    [
        ([[0, 3]], r"at least one of the nodes of layer 1 must be kept, and they are numbered 0 to 2; got \[0, 3\]"),
        ([[-4]], r"at least one of the nodes of layer 1 must be kept, and they are numbered 0 to 2; got \[-4\]"),
        ([[]], r"at least one of the nodes of layer 1 must be kept, and they are numbered 0 to 2; got \[\]"),
        ([[0], [1]], "one list of node indices for each of the 1 hidden layers; got 2"),
        ([], "one list of node indices for each of the 1 hidden layers; got 0"),
    ],
)
def test_bad_nodes(active: list[list[int]], message: str) -> None:
    model = KAN([2, 3, 1], auto_save=False)
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        model.prune_node(active_neurons_id=active)
    assert_untouched(model, before)


def test_a_network_without_hidden_layers_keeps_its_nodes() -> None:
    model, x = lively(KAN([2, 1], auto_save=False)), uniform(200, 2)
    model(x)
    assert model.prune(edge_th=0.0).width_in == [2, 1]


@pytest.mark.parametrize(("l", "i"), list(itertools.product([1, 2], [0, 1])))
def test_plot_mask_hides_what_prune_would_drop(l: int, i: int) -> None:
    model, x = lively(KAN([2, 2, 2, 1], auto_save=False)), uniform(200, 2)
    silence(model, l, i)
    model(x)
    model.prune(node_th=1e-12, edge_th=0.0)
    assert (l, i) in model._pruned


def test_symbolic_edges_of_every_layer_outlive_pruned_inputs() -> None:
    model, x = lively(KAN([3, 2, 1], auto_save=False)), uniform(200, 3)
    model(x)
    for edge, name in (((0, 2, 1), "sin"), ((1, 1, 0), "exp")):
        model.fix_symbolic(*edge, name, fit_params_bool=False)
    pruned = model.prune_input(active_inputs=[0, 2])
    assert [layer.funs_name for layer in pruned.symbolic_fun] == [
        [[row[0], row[2]] for row in model.symbolic_fun[0].funs_name],
        model.symbolic_fun[1].funs_name,
    ]
    assert pruned.symbolic_fun[1].funs_name[0][1] == "exp"


def test_a_model_that_saves_no_activations_is_pruned_like_any_other() -> None:
    # pykan's defect 36: the new model has other masks than widths.
    widths = []
    for save_act in (True, False):
        model, x = lively(KAN([2, 4, 1], auto_save=False, save_act=save_act)), uniform(200, 2)
        silence(model, 1, 2)
        model(x)
        pruned = model.prune(node_th=1e-9, edge_th=0.0)
        torch.testing.assert_close(pruned(x), model(x), rtol=1e-12, atol=1e-12)
        widths.append(pruned.width)
    assert widths == [[[2, 0], [3, 0], [1, 0]]] * 2


def test_symbolic_edges_are_pruned_on_demand() -> None:
    model, x = KAN([2, 1, 1], seed=0, auto_save=False), torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    model(x)
    model.fix_symbolic(0, 0, 0, "x", fit_params_bool=False)
    model.fix_symbolic(0, 1, 0, "x", fit_params_bool=False)
    with torch.no_grad():
        model.symbolic_fun[0].affine[0, 1] = torch.tensor([1.0, 0.0, 1e-4, 0.7])
        before = model(x)
    model.prune_edge(0.05)
    assert model.symbolic_fun[0].mask.tolist() == [[1.0, 1.0]]
    model.prune_edge(0.05, symbolic=True)
    assert model.symbolic_fun[0].mask.tolist() == [[1.0, 0.0]]
    with torch.no_grad():
        torch.testing.assert_close(model(x), before, rtol=0, atol=1e-3)  # its mean is held by the bias
    with pytest.raises(ValueError, match="would drop every edge of layer 0"):
        model.prune_edge(1e6, symbolic=True)
    assert model.symbolic_fun[0].mask.tolist() == [[1.0, 0.0]]


@OBEYED
def test_pruning_that_would_cut_every_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = KAN([1, 2, 1], seed=0, auto_save=False)
    model(torch.linspace(-1, 1, 20)[:, None])
    before = [layer.mask.clone() for layer in model.act_fun]
    # Both layers keep an edge above 0.3, but not of the same hidden node.
    scores = [torch.tensor([[0.9], [0.1]]), torch.tensor([[0.2, 0.8]])]
    real = prune.attribute
    monkeypatch.setattr(prune, "attribute", lambda trace: dataclasses.replace(real(trace), edge_scores_all=[s[None] for s in scores]))
    with pytest.raises(ValueError, match=r"cut every path from the inputs to the outputs; the least score on the best of them is 0\.2"):
        model.prune_edge(0.3)
    assert all(torch.equal(layer.mask, mask) for layer, mask in zip(model.act_fun, before, strict=True))
    model.prune_edge(0.15)
    assert [layer.mask.tolist() for layer in model.act_fun] == [[[1.0, 0.0]], [[1.0], [1.0]]]
