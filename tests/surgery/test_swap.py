"""Exchanged nodes: the function stays, everything that belongs to a node moves, and the greedy order is pykan's."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.surgery.swap import auto_swap_, auto_swap_layer_, swap_
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")


@torch.no_grad()
def lively(width: list[Any], seed: int = 0, **settings: Any) -> KAN:
    """A model whose every parameter differs, with symbolic edges, edges of both kinds and edges that are off."""
    model, generator = KAN(width, seed=seed, auto_save=False, **settings), torch.Generator().manual_seed(seed)
    model(uniform(300, model.width_in[0]))
    for name, parameter in model.named_parameters():
        if name.startswith(("node_", "subnode_")) or name.endswith(("scale_sp", "scale_base")):
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    for l in range(model.depth):
        layer = model.act_fun[l]
        layer.grid.add_(0.01 * torch.arange(layer.in_dim)[:, None])
        model.fix_symbolic(l, 0, -1, "sin", fit_params_bool=False, random=True)
        model.fix_symbolic(l, -1, 0, "x^2", fit_params_bool=False)
        model.set_mode(l, -1, 0, "sn", 0.3)
        model.fix_symbolic(l, 0, 0, lambda u: u * 0.5, fit_params_bool=False)
    model.remove_edge(0, -1, -1)
    return model


def output(model: KAN) -> Tensor:
    return model(uniform(300, model.width_in[0], seed=5)).detach()


PAIRS: list[tuple[list[Any], Any, int, int, int]] = [
    ([2, 4, 1], 2, 1, 0, 3),
    ([2, 4, 3, 2], 2, 2, 2, 0),
    ([2, 3, 1], 2, 1, 1, 1),
    ([2, [2, 3], 1], 3, 1, 0, 1),
    ([2, [2, 3], 1], 3, 1, 2, 4),
    ([2, [1, 3], [2, 2], 1], [[], [2, 3, 2], [2, 2], []], 1, 1, 3),
    ([2, [1, 3], [2, 2], 1], [[], [2, 3, 4], [2, 1], []], 1, 1, 3),
    ([2, [1, 3], [2, 2], 1], [[], [2, 3, 4], [2, 1], []], 2, 3, 2),
]


@pytest.mark.parametrize(("width", "arity", "l", "i1", "i2"), PAIRS)
def test_swapping_leaves_the_function_alone(width: list[Any], arity: Any, l: int, i1: int, i2: int) -> None:
    # pykan's defect 10: affine entries aliased, symbolic functions left behind, nodes taken for sub-nodes.
    model = lively(width, mult_arity=arity)
    before, acts, parameters = output(model), model.acts, [id(p) for p in model.parameters()]
    model.swap(l, i1, i2)
    torch.testing.assert_close(output(model), before, rtol=1e-12, atol=1e-12)
    assert acts is not None and model.acts is not None
    order = list(range(model.width_in[l]))
    order[i1], order[i2] = i2, i1
    for t, (new, old) in enumerate(zip(model.acts, acts, strict=True)):
        torch.testing.assert_close(new, old[:, order] if t == l else old, rtol=1e-12, atol=1e-12)
    assert [id(p) for p in model.parameters()] == parameters, "an optimiser must not lose its parameters"
    copied = KAN(**{**model.settings(), "width": model.width})
    assert copied.structure == model.structure, "arities in the settings are those of the network"
    model.swap(l, i1, i2)
    assert model.structure == lively(width, mult_arity=arity).structure
    assert torch.equal(output(model), before)


def test_different_arities_move_along() -> None:
    model = lively([2, [1, 2], 1], mult_arity=[[], [2, 4], []])
    assert swap_(model, 1, -1, -2) == [0, 2, 1]
    assert model.structure.arities == ((), (4, 2), ()) and model.mult_arity == [[], [4, 2], []]


def test_negative_indices() -> None:
    one, other = lively([2, 4, 3, 1]), lively([2, 4, 3, 1])
    one.swap(-2, -1, 0)
    other.swap(2, 2, 0)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert one.symbolic_fun[1].funs_name == other.symbolic_fun[1].funs_name


def test_what_cannot_be_exchanged() -> None:
    model = lively([2, [2, 1], 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="the nodes 1 and 2 of layer 1 are a sum node and a multiplication node; sum nodes come first"):
        model.swap(1, 1, 2)
    for l in (0, 2, -1, -3):
        with pytest.raises(IndexError, match=re.escape(f"only nodes of hidden layers can be exchanged; the layers of this network that are "
                                                       f"hidden: 1 to 1; got {l}.")):  # fmt: skip
            model.swap(l, 0, 1)
        with pytest.raises(IndexError, match="only nodes of hidden layers"):
            model.auto_swap_l(l)
    with pytest.raises(IndexError, match=re.escape("node of layer 1 must be between 0 and 2 (or -3 and -1, from the end); got 3.")):
        model.swap(1, 0, 3)
    with pytest.raises(IndexError, match="layer of nodes must be between 0 and 2"):
        model.swap(7, 0, 1)
    with pytest.raises(IndexError, match="hidden: none"):
        lively([2, 1]).swap(0, 0, 1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_needs_data() -> None:
    with pytest.raises(ValueError, match=r"hasn't seen any data yet: call model\(x\)"):
        KAN([2, 3, 1], auto_save=False).auto_swap()


# Automatic exchange

# pykan 0.2.8 in float64, on data(100, inputs): cost before and after, former place of the node at each place of layers 1 and 2.
GREEDY: list[tuple[list[int], int, float, float, dict[int, list[int]]]] = [
    (
        [9, 10, 10, 1], 3, 5.963627076839951, 4.87945949576154,
        {1: [4, 5, 0, 1, 7, 6, 8, 3, 2, 9], 2: [1, 0, 7, 2, 8, 6, 9, 3, 4, 5]},
    ),
    ([4, 6, 6, 2], 0, 4.234900900714374, 3.0884785764387757, {1: [2, 5, 3, 0, 1, 4], 2: [5, 1, 3, 0, 4, 2]}),
]  # fmt: skip


@pytest.mark.parametrize(("width", "seed", "before", "after", "places"), GREEDY)
def test_the_order_is_pykans(width: list[int], seed: int, before: float, after: float, places: dict[int, list[int]]) -> None:
    model = KAN(width, grid=3, k=3, seed=seed, auto_save=False)
    x = uniform(100, width[0])
    y = model(x)
    assert float(model.connection_cost.detach()) == pytest.approx(before, rel=1e-9)
    assert auto_swap_(model) == places
    assert float(model.connection_cost.detach()) == pytest.approx(after, rel=1e-9)
    torch.testing.assert_close(model(x), y, rtol=1e-12, atol=1e-12)


def test_a_single_pass_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    # pykan's defect 62: a pass for every pair of nodes.
    model = KAN([9, 10, 10, 1], auto_save=False)
    model(uniform(50, 9))
    passes, trace = [], KAN.trace
    monkeypatch.setattr(KAN, "trace", lambda self, *args, **kwargs: passes.append(1) or trace(self, *args, **kwargs))
    model.auto_swap()
    assert len(passes) == 1


def greedy_by_passes(model: KAN, l: int) -> list[int]:
    """Try every exchange with two passes."""
    structure = model.structure
    n_sum, order = structure.n_sum[l], list(range(model.width_in[l]))
    kinds = [0] * n_sum + list(structure.arities[l])
    for p in order[:]:
        costs = {}
        for q in range(model.width_in[l]):
            if kinds[p] == kinds[q]:
                swap_(model, l, p, q)
                costs[q] = float(model.connection_cost.detach())
                swap_(model, l, p, q)
        q = min(costs, key=lambda q: (round(costs[q], 9), q != p))
        swap_(model, l, p, q)
        order[p], order[q] = order[q], order[p]
    return order


@pytest.mark.parametrize(
    ("width", "arity", "l"),
    [([3, 5, 1], 2, 1), ([2, 3, 6, 2], 2, 2), ([2, [3, 4], 2], 3, 1), ([2, [2, 4], 3, 1], [[], [2, 3, 2, 3], [], []], 1)],
)
def test_the_table_is_what_passes_say(width: list[Any], arity: Any, l: int) -> None:
    # The second width is pykan's defect 10: it takes the number of nodes of layer 1 for all layers.
    model, other = lively(width, mult_arity=arity), lively(width, mult_arity=arity)
    output(model), output(other)
    y = output(model)
    before = float(model.connection_cost.detach())
    order = auto_swap_layer_(model, l)
    assert order == greedy_by_passes(other, l) != list(range(len(order)))
    assert float(model.connection_cost.detach()) == pytest.approx(float(other.connection_cost.detach()), rel=1e-9)
    assert float(model.connection_cost.detach()) < before
    torch.testing.assert_close(output(model), y, rtol=1e-12, atol=1e-12)


def test_nothing_moves_for_round_off() -> None:
    model = KAN([1, 3, 1], auto_save=False)
    with torch.no_grad():
        for layer in model.act_fun:
            layer.mask[:] = 0
        model.act_fun[0].mask[0, 1] = model.act_fun[1].mask[1, 0] = 1
    model(uniform(300, 1))
    assert auto_swap_(model) == {1: [0, 1, 2]}
    assert auto_swap_(KAN_seen([2, 1])) == {}


def KAN_seen(width: list[int]) -> KAN:
    model = KAN(width, auto_save=False)
    model(uniform(300, width[0]))
    return model


def test_what_is_known_of_nodes_moves_along() -> None:
    model = lively([2, 3, 1])
    model.attribute()
    model.node_attribute()
    scores, inner = model.node_scores[1].detach(), model.node_attribute_scores[0].detach()
    model._pruned = {(1, 0), (1, 1)}
    model.swap(1, 0, 2)
    torch.testing.assert_close(model.node_scores[1].detach(), scores[[2, 1, 0]])
    torch.testing.assert_close(model.node_attribute_scores[0].detach(), inner[[2, 1, 0]])
    assert model._pruned == {(1, 2), (1, 1)}


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    model = KAN([2, 3, 1])
    model(uniform(300, 2))
    capsys.readouterr()
    model.swap(1, 0, 1)
    model.swap(1, 0, 1, log_history=False)
    model.auto_swap_l(1)
    model.auto_swap()
    assert capsys.readouterr().out == "saving model version 0.1\nsaving model version 0.2\n"
    model.history(2)
    assert capsys.readouterr().out == "0.0 => swap => 0.1\n0.1 => auto_swap => 0.2\n"
    heterogeneous = lively([2, [0, 2], 1], mult_arity=[[], [2, 3], []])
    heterogeneous.swap(1, 0, 1)
    heterogeneous.unfix_symbolic_all()
    y = output(heterogeneous)
    heterogeneous.saveckpt("here")
    assert torch.equal(output(KAN.loadckpt("here")), y)
