r"""Attribution scores and connection cost of a perceptron.

Let ``s_i`` be the standard deviation of node ``i``. The score of an output is 1. From the last layer to the first,

    ``edge_ji = |W_ji| s_i node_j / (s_j + 1e-4)``,   ``node_i = sum_j edge_ji / sqrt(n)``,

where ``n`` is the number of nodes in the layer of node ``i``. The connection cost is the sum of all ``|W_ji|``, weighted by the distances
of their nodes, which are at ``(i + 0.5)/n`` in a layer.

References
    Z. Liu et al., "KAN 2.0: Kolmogorov-Arnold Networks Meet Science", 2024, arXiv:2408.10205; Z. Liu et al., "Seeing is Believing:
    Brain-Inspired Modular Training for Mechanistic Interpretability", 2023, arXiv:2305.08746 (connection cost).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kan.analysis.attribution import DEVIATION_FLOOR
from kan.analysis.connection import edge_lengths
from kan.network.perceptron import PerceptronTrace

__all__ = ["PerceptronAttribution", "attribute_perceptron", "connection_cost"]


class PerceptronAttribution(NamedTuple):
    """Scores of the nodes, ``(n_l,)`` for ``l = 0 ... L``, and of the edges, ``(n_{l+1}, n_l)`` for ``l = 0 ... L-1``."""

    node_scores: list[Tensor]
    edge_scores: list[Tensor]


def attribute_perceptron(trace: PerceptronTrace) -> PerceptronAttribution:
    """The scores on the data of `trace`, differentiable."""
    score = trace.output.new_ones(trace.output.shape[1])
    nodes, edges = [score], list[Tensor]()
    for forward, scale in zip(reversed(trace.wa_forward), reversed(trace.acts_scale), strict=True):
        edge = forward.abs() * (score / (scale + DEVIATION_FLOOR))[:, None]
        score = edge.sum(dim=0) / edge.shape[1] ** 0.5
        edges.insert(0, edge)
        nodes.insert(0, score)
    return PerceptronAttribution(nodes, edges)


def connection_cost(weights: Sequence[Tensor]) -> Tensor:
    """``sum_lji |W_lji| |(j + 0.5)/n_{l+1} - (i + 0.5)/n_l|``, 0-dim and differentiable."""
    return torch.stack([(w.abs() * edge_lengths(w)).sum() for w in weights]).sum()
