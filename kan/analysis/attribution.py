r"""Attribution: how much every node and edge contributes to the outputs, traced back from them.

With ``E`` the deviation of an edge and ``N`` that of its sub-node sum, an output's score is 1 and, from the last layer back,

    ``edge_ij = E_ij / (N_j + 1e-4) * subnode_j``,   ``node_i = sum_j edge_ij``,

where a sub-node has the score of the node that it belongs to. Gradients flow through ``E`` alone.

Written as matrices, a layer's scores are those of the next layer times its shares ``P_pi = sum_{j of p} E_ij / (N_j + 1e-4)``, so that
the scores of the inputs for the nodes of every layer are products of shares, and one walk through the layers gives all of them.

References
    Z. Liu et al., "KAN 2.0: Kolmogorov-Arnold Networks Meet Science", 2024, arXiv:2408.10205, section 4.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kan.analysis.indices import layer_index
from kan.network.structure import Structure
from kan.network.trace import Trace

__all__ = ["Attribution", "attribute", "feature_interaction", "node_attribution"]

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


def attribute(trace: Trace, l: int | None = None, out_score: Tensor | Sequence[float] | None = None) -> Attribution:
    """Scores of everything before layer `l` of nodes with respect to its nodes.

    Args:
        trace: of the data to judge by.
        l: layer of nodes to start from; the outputs when not given.
        out_score: ``(n_l,)`` initial scores of those nodes; ones when not given.

    Raises:
        IndexError: if there is no layer `l`.
        ValueError: if `out_score` has another shape.
    """
    structure = trace.structure
    start = layer_index(structure, -1 if l is None else l)
    size = structure.width_in[start]
    like = trace.output
    score = torch.eye(size, dtype=like.dtype, device=like.device) if out_score is None else torch.diag(_initial(out_score, size, like))
    deviations, sums = trace.edge_actscale, trace.subnode_actscale
    nodes, edges, subnodes = [score], list[Tensor](), list[Tensor]()
    for t in range(start, 0, -1):
        score = score[:, _owners(structure, t, like.device)]
        edge = deviations[t - 1] * (score / (sums[t - 1].detach() + FLOOR))[:, :, None]
        subnodes.insert(0, score)
        edges.insert(0, edge)
        score = edge.sum(dim=1)
        nodes.insert(0, score)
    if l is None and out_score is None:
        nodes, edges, subnodes = (
            _given(trace, name, own) for name, own in (("node_scores", nodes), ("edge_scores", edges), ("subnode_scores", subnodes))
        )
    return Attribution(nodes, edges, subnodes)


def _given(trace: Trace, name: str, own: list[Tensor]) -> list[Tensor]:
    """The scores of that name that a program has set, with one row for all outputs where they are means; else its `own`."""
    if name in trace.given:
        return [score[None] for score in trace.given[name]]
    return trace.given.get(f"{name}_all", own)


def node_attribution(trace: Trace) -> list[Tensor]:
    """Scores of the inputs for every node, each scaled by the node's own score.

    Returns:
        ``(n_l, n_0)`` for ``l = 1 ... L``: what `attribute` gives at `l` from the scores of all outputs on.
    """
    if "node_attribute_scores" in trace.given:
        return trace.given["node_attribute_scores"]
    structure, like = trace.structure, trace.output
    own = attribute(trace).node_scores
    reach = torch.eye(structure.width_in[0], dtype=like.dtype, device=like.device)
    scores = []
    for t, (edges, sums) in enumerate(zip(trace.edge_actscale, trace.subnode_actscale, strict=True), start=1):
        belongs = nn.functional.one_hot(_owners(structure, t, like.device), structure.width_in[t]).to(like.dtype)
        share = belongs.t() @ (edges / (sums.detach() + FLOOR)[:, None])
        reach = share @ reach
        scores.append(own[t][:, None] * reach)
    return scores


def feature_interaction(scores: Tensor, neuron_th: float = 1e-2, feature_th: float = 1e-2) -> dict[tuple[int, ...], int]:
    """Which inputs occur together in the nodes of a layer, and in how many.

    Args:
        scores: of the inputs for the nodes, ``(n_l, n_0)``, see `node_attribution`.
        neuron_th: a node counts if its largest score is above this.
        feature_th: an input occurs in a node if its score is above this share of the largest.

    >>> feature_interaction(torch.tensor([[1.0, 0.5, 0.0], [0.2, 0.3, 0.0], [0.0, 0.0, 0.001]]))
    {(0, 1): 2}
    """
    rows = scores.detach().cpu().tolist()
    found = (tuple(i for i, score in enumerate(row) if score > feature_th * max(row)) for row in rows if max(row) > neuron_th)
    return dict(Counter(found))


def _initial(out_score: Any, size: int, like: Tensor) -> Tensor:
    """Initial scores ``(size,)``."""
    score = torch.as_tensor(out_score, dtype=like.dtype, device=like.device)
    if score.shape != (size,):
        raise ValueError(f"out_score must have one score for each of the {size} nodes, the shape ({size},); got {tuple(score.shape)}.")
    return score


def _owners(structure: Structure, t: int, device: torch.device) -> Tensor:
    """For every sub-node of layer `t`, the node that it belongs to."""
    n_sum = structure.n_sum[t]
    owners = list(range(n_sum))
    for r, arity in enumerate(structure.arities[t]):
        owners += [n_sum + r] * arity
    return torch.tensor(owners, device=device)
