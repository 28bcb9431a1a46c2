r"""The objective ``loss + lamb R``: one definition for every optimiser.

For a matrix ``V`` of edge (or node) scores, rows are outputs and columns inputs, with ``P = V / (row sum + 1)`` and
``Q = V / (column sum + 1)``,

    ``R = sum_V [lamb_l1 sum(V) - lamb_entropy (mean_r sum_c P log2(P + 1e-4) + mean_c sum_r Q log2(Q + 1e-4))]``
    ``    + sum_layers [lamb_coef sum_im mean_j |coef_ijm| + lamb_coefdiff sum_im mean_j |coef_ij(m+1) - coef_ijm|]``.

Which scores ``V`` are is the metric: deviations of the edges (``edge_forward_*``) or attribution scores (``*_backward``).

References
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756, section 2.5.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from kan.analysis.attribution import attribute, node_attribution
from kan.errors import check_finite, unknown_name
from kan.network.network import Network
from kan.network.trace import FirstLayer, Trace
from kan.training.plain import PlainNetwork, evaluate_plain, evaluate_plain_with_gradient
from kan.training.sparsity import sparsity

__all__ = ["METRICS", "Objective", "Penalty", "regularization"]


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


def regularization(network: Network, trace: Trace, penalty: Penalty) -> Tensor:
    """``R`` of a network on the data of `trace`, 0-dim."""
    total = sparsity(METRICS[penalty.metric](trace), penalty.lamb_l1, penalty.lamb_entropy)
    if penalty.lamb_coef or penalty.lamb_coefdiff:
        for layer in network.numeric_layers:
            total = total + penalty.lamb_coef * layer.coef.abs().mean(dim=1).sum()
            total = total + penalty.lamb_coefdiff * layer.coef.diff(dim=-1).abs().mean(dim=1).sum()
    return total


@dataclass(frozen=True)
class Objective:
    """``loss(network(x), y) + lamb R``, with ``network(x)`` the last nodes: labels are in the network's units.

    Attributes:
        network: the network.
        loss_fn: of prediction and label, and of the samples' weights if there are any.
        lamb: weight of the penalty; with 0 the penalty is not computed.
        penalty: its definition.
        singularity_avoiding, y_th: how symbolic edges are evaluated.
        corner: rounds the deviations of the edges in the penalty, see `Network.trace`; exact with 0.
    """

    network: Network
    loss_fn: Callable[..., Tensor]
    lamb: float
    penalty: Penalty
    singularity_avoiding: bool = False
    y_th: float = 1000.0
    corner: float = 0.0

    def __call__(
        self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objective, loss and penalty, 0-dim each.

        Args:
            x, y: the samples.
            first: the first layer's features for this `x`, if they are known.
            weight: how much each sample counts, ``(B,)``; see `loss`.
        """
        plain = self._plain
        if plain is not None and plain.holds():
            return evaluate_plain(self, plain, x, y, first, weight)
        return self.composed(x, y, first, weight)

    def loss(self, output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss, 0-dim: the weighted mean of the squared errors, or ``loss_fn(output, y, weight)``; without weights as it is."""
        if weight is None:
            return self.loss_fn(output, y)
        if self.squares:
            return weight @ (output - y).square().mean(1) / weight.sum()
        return self.loss_fn(output, y, weight)

    @property
    def squares(self) -> bool:
        """Whether the loss is the mean squared error."""
        return self.loss_fn is nn.functional.mse_loss

    def predict(self, x: Tensor) -> Tensor:
        """The network's last nodes."""
        return self.network.trace(x, singularity_avoiding=self.singularity_avoiding, y_th=self.y_th).last_nodes

    def with_gradient(self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None) -> Tensor:
        """The objective, 0-dim; its gradient replaces the ``.grad`` of the network's parameters."""
        plain = self._plain
        if plain is not None and plain.holds():
            return evaluate_plain_with_gradient(self, plain, x, y, first, weight)
        for p in self.network.parameters():
            p.grad = None
        total = self.composed(x, y, first, weight)[0]
        total.backward()
        return total.detach()

    @cached_property
    def _plain(self) -> PlainNetwork | None:
        """The network as `evaluate_plain` wants it, if it fits there and so does the penalty."""
        p = self.penalty
        easy = self.lamb == 0 or (p.metric == "edge_forward_spline_n" and p.lamb_coef == p.lamb_coefdiff == 0)
        return PlainNetwork.of(self.network) if easy else None

    def composed(
        self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same for any network and penalty, differentiable any number of times."""
        trace = self.network.trace(x, first=first, singularity_avoiding=self.singularity_avoiding, y_th=self.y_th, corner=self.corner)
        loss = self.loss(trace.last_nodes, y, weight)
        if self.lamb == 0:
            return loss, loss, loss.new_zeros(())
        penalty = regularization(self.network, trace, self.penalty)
        return loss + self.lamb * penalty, loss, penalty
