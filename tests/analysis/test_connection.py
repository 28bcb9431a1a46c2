"""The cost of connections: the sum written out, and pykan's number."""

import pytest
import torch

from kan.analysis.attribution import attribute
from kan.analysis.connection import connection_cost, edge_lengths
from kan.network.network import Network
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")


def test_pykans_number() -> None:
    # pykan 0.2.8, KAN([3, 4, 3, 2], grid=3, k=3, seed=0) on data(60, 3) in float64.
    cost = connection_cost(Network([3, 4, 3, 2], seed=0).trace(uniform(60, 3)))
    assert float(cost.detach()) == pytest.approx(3.514943423660928, rel=1e-10)


def test_the_sum_written_out() -> None:
    trace = Network([2, [1, 2], 2], mult_arity=3, seed=1).trace(uniform(40, 2))
    expected = 0.0
    for score in attribute(trace).edge_scores:
        m, n = score.shape
        for j in range(m):
            for i in range(n):
                expected += float(score[j, i].detach()) * abs((j + 0.5) / m - (i + 0.5) / n)
    assert float(connection_cost(trace).detach()) == pytest.approx(expected, rel=1e-12)


def test_lengths() -> None:
    torch.testing.assert_close(edge_lengths(torch.zeros(2, 4)), torch.tensor([[0.125, 0.125, 0.375, 0.625], [0.625, 0.375, 0.125, 0.125]]))
    assert not edge_lengths(torch.zeros(3, 3)).diagonal().any()


def test_the_cost_can_be_minimised() -> None:
    network, x = Network([2, 4, 1], seed=0), uniform(40, 2)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    costs = []
    for _ in range(5):
        optimizer.zero_grad()
        cost = connection_cost(network.trace(x))
        cost.backward()
        optimizer.step()
        costs.append(float(cost.detach()))
    assert costs == sorted(costs, reverse=True) and costs[-1] < costs[0]
