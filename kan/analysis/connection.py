r"""Connection cost: the length of the connections of a network when it is drawn, weighted by their attribution scores.

Let ``S_ji`` be the score of the edge from node ``i`` of ``n`` to sub-node ``j`` of ``m``, both evenly spaced on ``[0, 1]``. Then

    ``cost = sum_layers sum_ij S_ji |(j + 1/2)/m - (i + 1/2)/n|``.

The order of hidden nodes has no influence on the function of a network, but on this cost; see `kan.surgery.swap`.

References
    Z. Liu, E. Gan, M. Tegmark, "Seeing is Believing: Brain-Inspired Modular Training for Mechanistic Interpretability", 2023,
    arXiv:2305.08746.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kan.analysis.attribution import attribute
from kan.network.trace import Trace

__all__ = ["connection_cost", "edge_lengths"]


def edge_lengths(scores: Tensor) -> Tensor:
    """``|(j + 1/2)/m - (i + 1/2)/n|`` for every edge of a layer with the scores `scores` ``(m, n)``, in their dtype."""
    ends, starts = ((torch.arange(size, dtype=scores.dtype, device=scores.device) + 0.5) / size for size in scores.shape)
    return (ends[:, None] - starts).abs()


def connection_cost(trace: Trace) -> Tensor:
    """The connection cost for the data of `trace`, 0-dim and differentiable."""
    return torch.stack([(score * edge_lengths(score)).sum() for score in attribute(trace).edge_scores]).sum()
