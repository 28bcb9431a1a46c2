"""The part of a network that remains when some nodes are kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kan import KAN
from kan.surgery.select import select_nodes

pytestmark = pytest.mark.usefixtures("float64")
X = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def model(**settings: object) -> KAN:
    found = KAN([3, [2, 2], 2], mult_arity=[[], [2, 3], []], grid=3, seed=0, auto_save=False, **settings).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in (*found.node_scale, *found.node_bias, *found.subnode_scale, *found.subnode_bias):
            p.copy_(torch.randn(p.shape, generator=generator))
    return found


@settings(deadline=None, max_examples=15)
@given(st.sets(st.integers(0, 2), min_size=1), st.sets(st.integers(0, 3), min_size=1), st.sets(st.integers(0, 1), min_size=1))
def test_dropped_nodes_that_contribute_nothing_are_not_missed(inputs: set[int], hidden: set[int], outputs: set[int]) -> None:
    network = model()
    with torch.no_grad():
        for i in set(range(3)) - inputs:
            network.act_fun[0].mask[i] = 0.0
        for i in set(range(4)) - hidden:
            network.act_fun[1].mask[i] = 0.0
    part = select_nodes(network, [sorted(inputs), sorted(hidden), sorted(outputs)])
    assert part.width_in == [len(inputs), len(hidden), len(outputs)]
    torch.testing.assert_close(part(X), network(X)[:, sorted(outputs)], rtol=1e-12, atol=1e-12)


def test_the_network_is_left_alone_and_shares_nothing() -> None:
    network = model()
    before = network(X).detach()
    part = select_nodes(network, [[0, 1, 2], [0, 1, 2, 3], [0, 1]])
    with torch.no_grad():
        for p in part.parameters():
            p.zero_()
    assert torch.equal(network(X), before)


def test_settings_labels_and_what_is_trained_come_along() -> None:
    network = model(grid_eps=0.5, sp_trainable=False, affine_trainable=True)
    network.in_vars, network.out_vars = ["a", "b", "c"], ["u", "v"]
    network.node_bias_0.requires_grad_(False)
    network.eval()
    part = select_nodes(network, [[0, 2], [1, 3], [1]])
    assert part.grid_eps == 0.5 and not part.training
    assert not part.node_bias_0.requires_grad and part.node_bias_1.requires_grad
    assert [p.requires_grad for p in (part.act_fun[0].scale_sp, part.act_fun[0].coef)] == [False, True]
    assert list(part.out_vars) == ["v"] and part.input_id.tolist() == [0, 2] and part.input_width == 3
