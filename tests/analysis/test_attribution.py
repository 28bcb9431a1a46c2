"""Attribution: the recursion written out, pykan's numbers where pykan is right, and what it gets wrong."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kan.analysis.attribution import Attribution, attribute, feature_interaction, node_attribution
from kan.network.network import Network
from kan.network.trace import Trace
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

# pykan 0.2.8, KAN([3, 4, 3, 2], grid=3, k=3, seed=0) on data(60, 3) in float64.
NODE_SCORES = [
    [2.8860304332, 2.0142396168, 1.6217076901],
    [1.8022915398, 0.6645872184, 1.1132510136, 0.5570029651],
    [1.0084188546, 0.9506921743, 0.4402277616],
    [0.5, 0.5],
]
NODE_ATTRIBUTE_SCORES = [
    [
        [1.5204167724, 0.8444918503, 0.2408900155],
        [0.4016986267, 0.4461967617, 0.2749529320],
        [0.4916198470, 0.4716662653, 0.8965599645],
        [0.4722951870, 0.2518847395, 0.2093047782],
    ],
    [[1.0770313614, 0.6795355329, 0.4945306238], [1.0386248326, 0.7282887303, 0.7246986921], [0.7703742392, 0.6064153536, 0.4024783742]],
    [[2.1850819801, 1.5082918218, 1.1935290965], [0.7009484531, 0.5059477950, 0.4281785936]],
]


def traced(width: list[Any], seed: int = 0, **settings: Any) -> Trace:
    network, generator = Network(width, seed=seed, **settings), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith(("node_", "subnode_")):
                parameter.add_(torch.rand(parameter.shape, generator=generator) * 0.5)
    return network.trace(uniform(60, network.width_in[0]))


def by_hand(trace: Trace, l: int | None = None, out_score: Sequence[float] | None = None) -> Attribution:
    """Section 4.1 of KAN 2.0, one number after the other."""
    structure = trace.structure
    start = structure.depth if l is None else l
    scores = np.eye(structure.width_in[start]) if out_score is None else np.diag(np.asarray(out_score, dtype=float))
    nodes, edges, subnodes = [scores], [], []
    for t in range(start, 0, -1):
        deviation = [e.detach().numpy() for e in trace.edge_actscale][t - 1]
        total = [s.detach().numpy() for s in trace.subnode_actscale][t - 1]
        outputs, m, n = len(scores), structure.width_out[t], structure.width_in[t - 1]
        sub, edge, node = np.zeros((outputs, m)), np.zeros((outputs, m, n)), np.zeros((outputs, n))
        for k in range(outputs):
            for r in range(structure.width_in[t]):
                for j in structure.subnodes(t, r):
                    sub[k, j] = scores[k, r]
            for j in range(m):
                for i in range(n):
                    edge[k, j, i] = deviation[j, i] * sub[k, j] / (total[j] + 1e-4)
                    node[k, i] += edge[k, j, i]
        scores = node
        nodes.insert(0, node)
        edges.insert(0, edge)
        subnodes.insert(0, sub)
    return Attribution(*([torch.from_numpy(a) for a in part] for part in (nodes, edges, subnodes)))


def detached(scores: Sequence[Tensor]) -> list[Tensor]:
    return [score.detach() for score in scores]


def same(one: Attribution, other: Attribution) -> None:
    for name in ("node_scores_all", "edge_scores_all", "subnode_scores_all", "node_scores", "edge_scores", "subnode_scores"):
        torch.testing.assert_close(detached(getattr(one, name)), getattr(other, name), rtol=1e-10, atol=1e-12)


WIDTHS: list[tuple[list[Any], Any]] = [
    ([3, 4, 3, 2], 2),
    ([2, 1], 2),
    ([2, [1, 2], 3], 3),
    # pykan's defect 11: wrong where arities differ and there are several outputs; arity == K and arity != K.
    ([2, [2, 2], 3], [[], [2, 3], []]),
    ([3, [0, 3], [1, 2], 2], [[], [2, 4, 1], [2, 3], []]),
    ([2, 2, [1, 1]], [[], [], [2]]),
]


@pytest.mark.parametrize(("width", "arity"), WIDTHS)
def test_the_recursion_written_out(width: list[Any], arity: Any) -> None:
    trace = traced(width, mult_arity=arity)
    same(attribute(trace), by_hand(trace))
    for l in range(len(width)):
        size = trace.structure.width_in[l]
        same(attribute(trace, l), by_hand(trace, l))
        score = [0.5 + i for i in range(size)]
        same(attribute(trace, l - len(width), score), by_hand(trace, l, score))
        same(attribute(trace, l, torch.tensor(score)), by_hand(trace, l, score))


def test_the_mean_over_outputs() -> None:
    found = attribute(traced([2, 3, 4]))
    torch.testing.assert_close(found.node_scores[-1], torch.full((4,), 0.25))


def test_pykans_numbers() -> None:
    trace = traced_without_affines()
    torch.testing.assert_close(detached(attribute(trace).node_scores), [torch.tensor(s) for s in NODE_SCORES], rtol=0, atol=1e-9)
    found = detached(node_attribution(trace))
    torch.testing.assert_close(found, [torch.tensor(s) for s in NODE_ATTRIBUTE_SCORES], rtol=0, atol=1e-9)
    assert feature_interaction(found[0]) == {(0, 1, 2): 4}
    assert feature_interaction(found[1], 0.3, 0.5) == {(0, 1, 2): 2, (0, 1): 1}
    assert feature_interaction(found[1], 0.72, 0.6) == {(0, 1): 2, (0, 1, 2): 1} and feature_interaction(found[1], 2.0) == {}
    assert feature_interaction(found[0], 0.02, 0.6) == {(0,): 2, (0, 1, 2): 1, (2,): 1}


def traced_without_affines() -> Trace:
    return Network([3, 4, 3, 2], seed=0).trace(uniform(60, 3))


@pytest.mark.parametrize(("width", "arity"), WIDTHS)
def test_node_attribution_is_attribution_from_each_layer(width: list[Any], arity: Any) -> None:
    trace = traced(width, mult_arity=arity)
    own = attribute(trace).node_scores
    expected = [by_hand(trace, l, own[l].tolist()).node_scores_all[0] for l in range(1, len(width))]
    torch.testing.assert_close(detached(node_attribution(trace)), expected, rtol=1e-10, atol=1e-12)


def test_gradients_flow_through_the_deviations_of_edges() -> None:
    network = Network([2, 3, 2], seed=0)
    trace = network.trace(uniform(30, 2))
    for scores in (attribute(trace).edge_scores, node_attribution(trace)):
        (gradient,) = torch.autograd.grad(sum(s.square().sum() for s in scores), network.numeric_layers[0].coef, retain_graph=True)
        assert bool((gradient != 0).any()) and bool(torch.isfinite(gradient).all())


def test_interactions_are_those_above_both_thresholds() -> None:
    scores = torch.tensor([[1.0, 0.5, 0.5], [0.02, 0.0, 0.01], [0.01, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert feature_interaction(scores, neuron_th=0.01, feature_th=0.5) == {(0,): 2}
    assert feature_interaction(scores, neuron_th=0.009, feature_th=0.49) == {(0, 1, 2): 1, (0, 2): 1, (0,): 1}


def test_what_does_not_fit() -> None:
    trace = traced([2, 3, 1])
    with pytest.raises(IndexError, match=re.escape("layer of nodes must be between 0 and 2 (or -3 and -1, from the end); got 3.")):
        attribute(trace, 3)
    for score in ([1.0], torch.ones(3, 1)):
        with pytest.raises(ValueError, match=re.escape("out_score must have one score for each of the 3 nodes, the shape (3,); got (")):
            attribute(trace, 1, score)
