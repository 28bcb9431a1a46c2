r"""The penalty of a network: how its scores of edges or nodes and its coefficients are weighed.

For a matrix ``V`` of edge (or node) scores, rows are outputs and columns inputs, with ``P = V / (row sum + 1)`` and
``Q = V / (column sum + 1)``,

    ``R = sum_V [lamb_l1 sum(V) - lamb_entropy (mean_r sum_c P log2(P + 1e-4) + mean_c sum_r Q log2(Q + 1e-4))]``
    ``    + sum_layers [lamb_coef sum_im mean_j |coef_ijm| + lamb_coefdiff sum_im mean_j |coef_ij(m+1) - coef_ijm|]``.

Which scores ``V`` are is the metric: deviations of the edges (``edge_forward_*``) or attribution scores (``*_backward``).

References
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756, section 2.5.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kan.analysis.attribution import attribute, node_attribution
from kan.errors import check_finite, unknown_name
from kan.network.network import Network
from kan.network.trace import Trace
from kan.training.objectives.sparsity import sparsity

__all__ = ["METRICS", "Penalty", "coefficients", "coefficients_gradient", "regularization"]

METRICS: dict[str, Callable[[Trace], list[Tensor]]] = {
    "edge_forward_spline_n": lambda trace: trace.acts_scale_spline,
    "edge_forward_sum": lambda trace: trace.acts_scale,
    "edge_forward_spline_u": lambda trace: trace.edge_actscale,
    "edge_backward": lambda trace: attribute(trace).edge_scores,
    "node_backward": node_attribution,
}
"""The score matrices that a penalty can be taken of, by name."""


@dataclass(frozen=True)
class Penalty:
    """The weights in ``R`` and the metric it is taken of."""

    metric: str = "edge_forward_spline_n"
    lamb_l1: float = 1.0
    lamb_entropy: float = 2.0
    lamb_coef: float = 0.0
    lamb_coefdiff: float = 0.0

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise unknown_name("reg_metric", self.metric, METRICS)
        for name in ("lamb_l1", "lamb_entropy", "lamb_coef", "lamb_coefdiff"):
            check_finite(name, getattr(self, name))

    @property
    def of_coefficients(self) -> bool:
        """Whether the penalty has terms of the coefficients."""
        return self.lamb_coef != 0 or self.lamb_coefdiff != 0


def regularization(network: Network, trace: Trace, penalty: Penalty) -> Tensor:
    """``R`` of a network on the data of `trace`, 0-dim."""
    total = sparsity(METRICS[penalty.metric](trace), penalty.lamb_l1, penalty.lamb_entropy)
    if penalty.of_coefficients:
        total = total + coefficients([layer.coef for layer in network.numeric_layers], penalty)
    return total


def coefficients(coefs: Sequence[Tensor], penalty: Penalty) -> Tensor:
    """The terms of ``R`` that depend on the coefficients ``(I, O, n)`` of all layers alone, 0-dim."""
    total = coefs[0].new_zeros(())
    for coef in coefs:
        total = total + penalty.lamb_coef * coef.abs().mean(dim=1).sum()
        total = total + penalty.lamb_coefdiff * coef.diff(dim=-1).abs().mean(dim=1).sum()
    return total


def coefficients_gradient(coef: Tensor, penalty: Penalty) -> Tensor:
    """Gradient of `coefficients` with respect to the coefficients ``(I, O, n)`` of one layer, where zeros have the slope zero."""
    rises = torch.nn.functional.pad(coef.diff(dim=-1).sign(), (1, 1))
    return (penalty.lamb_coef * coef.sign() - penalty.lamb_coefdiff * rises.diff(dim=-1)) / coef.shape[1]
