r"""Attribution: scores that say how much every node and edge contributes to the outputs.

Let ``E_ij`` be the standard deviation of an edge, and ``N_j`` that of the sum at its sub-node. The score of an output is 1. From the last
layer to the first,

    ``edge_ij = E_ij / (N_j + 1e-4) * subnode_j``,   ``node_i = sum_j edge_ij``,

where a sub-node has the score of its node. Gradients pass through ``E`` only.

In matrix form, the scores of a layer are those of the next layer times the shares ``P_pi = sum_{j of p} E_ij / (N_j + 1e-4)``. The scores
of the inputs for the nodes of a layer are therefore products of shares, and one pass through the layers gives those for all layers.

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
from kan.devices import constant
from kan.network.structure import Structure
from kan.network.trace import Trace

__all__ = ["Attribution", "attribute", "feature_interaction", "node_attribution"]

DEVIATION_FLOOR = 1e-4
"""Number that is added to a standard deviation before it divides; pykan's value."""


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
    """Scores of all nodes and edges before a layer of nodes, with respect to the nodes of this layer.

    Args:
        trace: the record of a pass, from whose data the scores are computed.
        l: the layer of nodes; the outputs when not given.
        out_score: initial scores of these nodes, ``(n_l,)``; ones when not given.

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
        edge = deviations[t - 1] * (score / (sums[t - 1].detach() + DEVIATION_FLOOR))[:, :, None]
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
    """The scores of a name that a program has set, or else those in `own`. Scores that are means over the outputs have one row."""
    if name in trace.given:
        return [score[None] for score in trace.given[name]]
    return trace.given.get(f"{name}_all", own)


def node_attribution(trace: Trace) -> list[Tensor]:
    """Scores of the inputs for every node, each multiplied by the score of the node.

    Returns:
        For ``l = 1 ... L`` the scores ``(n_l, n_0)``, which equal those of `attribute` at `l` for the scores of the nodes as `out_score`.
    """
    if "node_attribute_scores" in trace.given:
        return trace.given["node_attribute_scores"]
    structure, like = trace.structure, trace.output
    own = attribute(trace).node_scores
    reach = torch.eye(structure.width_in[0], dtype=like.dtype, device=like.device)
    scores = []
    for t, (edges, sums) in enumerate(zip(trace.edge_actscale, trace.subnode_actscale, strict=True), start=1):
        belongs = nn.functional.one_hot(_owners(structure, t, like.device), structure.width_in[t]).to(like.dtype)
        share = belongs.t() @ (edges / (sums.detach() + DEVIATION_FLOOR)[:, None])
        reach = share @ reach
        scores.append(own[t][:, None] * reach)
    return scores


def feature_interaction(scores: Tensor, neuron_th: float = 1e-2, feature_th: float = 1e-2) -> dict[tuple[int, ...], int]:
    """The sets of inputs that occur together in the nodes of a layer, each with the number of these nodes.

    Args:
        scores: scores of the inputs for the nodes, ``(n_l, n_0)``, see `node_attribution`.
        neuron_th: threshold of the largest score of a node, above which the node counts.
        feature_th: threshold of the score of an input, as a share of the node's largest, above which the input occurs in the node.

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
    return constant(tuple(owners), torch.long, device)
