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
from typing import Any

from torch import Tensor, nn

from kan.analysis.attribution import attribute, node_attribution
from kan.errors import check_finite, unknown_name
from kan.network.network import Network
from kan.network.trace import FirstLayer, Trace
from kan.network.user_code.observed import observed, shown, unseen
from kan.network.user_code.own_code import PENALTY, own_call, own_methods
from kan.training.objectives.closed_form import PlainNetwork, evaluate_plain, evaluate_plain_with_gradient
from kan.training.objectives.sparsity import sparsity

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

    Of a network that is called by its user's own code, ``network(x)`` is what a call of it returns, and ``R`` is that of the layers in this
    call. A user's own ``get_reg`` or ``reg`` is asked for ``R``.

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
        """The network's last nodes, or what a call of it returns if that is its user's own."""
        return self._passed(x, None)[0]

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
        standard = p.metric == "edge_forward_spline_n" and p.lamb_coef == p.lamb_coefdiff == 0 and not self.own_penalty
        easy = self.lamb == 0 or standard
        return PlainNetwork.of(self.network) if easy else None

    def composed(
        self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same for any network and penalty, differentiable any number of times."""
        output, trace = self._passed(x, first)
        loss = self.loss(output, y, weight)
        if self.lamb == 0:
            return loss, loss, loss.new_zeros(())
        penalty = self.regularization(trace)
        return loss + self.lamb * penalty, loss, penalty

    def traced(self, x: Tensor) -> Trace:
        """The record of the pass that the objective makes for `x`.

        Raises:
            ValueError: if the user's own ``forward`` hides it.
        """
        trace = self._passed(x, None)[1]
        if trace is None:
            raise unseen(self._between)
        return trace

    def regularization(self, trace: Trace | None) -> Tensor:
        """``R`` on the data of `trace`, 0-dim.

        Raises:
            TypeError: if the user's own penalty is no number.
            ValueError: if there is no trace, because the user's own ``forward`` hides what the layers see.
        """
        network, p = self.network, self.penalty
        if not self.own_penalty:
            if trace is None:
                raise unseen(self._between)
            return regularization(network, trace, p)
        with shown(network, trace):
            value = network.get_reg(p.metric, p.lamb_l1, p.lamb_entropy, p.lamb_coef, p.lamb_coefdiff)
        if not isinstance(value, Tensor) or value.numel() != 1:
            what = f"a tensor of the shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"get_reg and reg of {type(network).__name__} must return a tensor with one number; got {what}.")
        return value.reshape(())

    @cached_property
    def own_penalty(self) -> bool:
        """Whether the penalty is the user's own."""
        return bool(own_methods(self.network, *PENALTY))

    @cached_property
    def _between(self) -> str:
        return own_call(self.network)

    def _passed(self, x: Tensor, first: FirstLayer | None) -> tuple[Tensor, Trace | None]:
        """The prediction, and the record of the pass."""
        evaluation: dict[str, Any] = {"singularity_avoiding": self.singularity_avoiding, "y_th": self.y_th, "corner": self.corner}
        if self._between:
            output, trace, _ = observed(self.network, x, **evaluation)
            return output, trace
        trace = self.network.trace(x, first=first, **evaluation)
        return trace.last_nodes, trace
