r"""Attribution: how much every node and edge contributes to the outputs, traced back from them.

With ``E`` the deviation of an edge and ``N`` that of its sub-node sum, an output's score is 1 and, from the last layer back,

    ``edge_ij = E_ij / (N_j + 1e-4) * subnode_j``,   ``node_i = sum_j edge_ij``,

where a sub-node has the score of the node that it belongs to. Gradients flow through ``E`` alone.

References
    Z. Liu et al., "KAN 2.0: Kolmogorov-Arnold Networks Meet Science", 2024, arXiv:2408.10205, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kan.network.structure import Structure
from kan.network.trace import Trace

__all__ = ["Attribution", "attribute"]

FLOOR = 1e-4


@dataclass(frozen=True)
class Attribution:
    """Scores of nodes, sub-nodes and edges with respect to ``K`` outputs.

    Attributes:
        node_scores_all: per layer of nodes from the inputs on, ``(K, n_t)``.
        edge_scores_all: per KAN layer, ``(K, m_{t+1}, n_t)``.
        subnode_scores_all: per layer of nodes from the first hidden one on, ``(K, m_t)``.
    """

    node_scores_all: list[Tensor]
    edge_scores_all: list[Tensor]
    subnode_scores_all: list[Tensor]

    @property
    def node_scores(self) -> list[Tensor]:
        """Means over the outputs, ``(n_t,)``."""
        return [score.mean(dim=0) for score in self.node_scores_all]

    @property
    def edge_scores(self) -> list[Tensor]:
        """Means over the outputs, ``(m_{t+1}, n_t)``."""
        return [score.mean(dim=0) for score in self.edge_scores_all]

    @property
    def subnode_scores(self) -> list[Tensor]:
        """Means over the outputs, ``(m_t,)``."""
        return [score.mean(dim=0) for score in self.subnode_scores_all]


def attribute(trace: Trace, l: int | None = None, out_score: Tensor | None = None) -> Attribution:
    """Scores of everything before layer `l` of nodes with respect to its nodes.

    Args:
        trace: of the data to judge by.
        l: layer of nodes to start from; the outputs when not given.
        out_score: ``(n_l,)`` initial scores of those nodes; ones when not given.
    """
    structure = trace.structure
    start = structure.depth if l is None else l
    size = structure.width_in[start]
    like = trace.output
    score = torch.eye(size, dtype=like.dtype, device=like.device) if out_score is None else torch.diag(out_score)
    deviations, sums = trace.edge_actscale, trace.subnode_actscale
    nodes, edges, subnodes = [score], list[Tensor](), list[Tensor]()
    for t in range(start, 0, -1):
        score = score[:, _owners(structure, t, like.device)]
        edge = deviations[t - 1] * (score / (sums[t - 1].detach() + FLOOR))[:, :, None]
        subnodes.insert(0, score)
        edges.insert(0, edge)
        score = edge.sum(dim=1)
        nodes.insert(0, score)
    return Attribution(nodes, edges, subnodes)


def _owners(structure: Structure, t: int, device: torch.device) -> Tensor:
    """For every sub-node of layer `t`, the node that it belongs to."""
    n_sum = structure.n_sum[t]
    owners = list(range(n_sum))
    for r, arity in enumerate(structure.arities[t]):
        owners += [n_sum + r] * arity
    return torch.tensor(owners, device=device)
