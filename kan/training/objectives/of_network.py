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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kan.analysis.attribution import attribute, node_attribution
from kan.errors import check_finite, unknown_name
from kan.network.network import Network
from kan.network.trace import FirstLayer, Trace
from kan.network.user_code.observed import observed, shown, unseen
from kan.network.user_code.own_code import PENALTY, own_call, own_methods
from kan.training.objectives.base import TrainingObjective
from kan.training.objectives.closed_form import PlainNetwork, evaluate_plain, evaluate_plain_with_gradient
from kan.training.objectives.sparsity import sparsity

__all__ = ["METRICS", "Objective", "Penalty", "corner_of", "features_per_sample", "regularization"]

CORNER = 1e-2
"""Size of the rounding of an edge's deviation ``d``, which enters the optimised penalty as ``sqrt(d^2 + CORNER^2) - CORNER``.

The corner of the deviation at a dead edge stalls quasi-Newton steps: on exp(sin(pi x) + y^2) with [2,5,1], lamb=1e-3 and 50 steps, 8 of 10
seeds end with one hidden node without this rounding and 10 of 10 with it. In float32 a corner of 1e-3 still stalls. The reported ``reg``
is exact."""
SMALL_DEVIATION = 0.1
"""Largest deviation of a layer's edges below which the rounding is reduced in proportion. A penalty lets the first layers shrink where
later ones can make up for it: on sqrt((x_1 - x_2)^2 + (x_3 - x_4)^2) with [4, 2, 1, 1] they shrink to 0.01, where all edges would lie in
the rounded corner and none would be driven to zero."""
SMALLEST_SHARE = 1e-2
"""Smallest reduced rounding, as a share of `CORNER`. It bounds the rounding for layers that the penalty switches off."""

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


def features_per_sample(network: Network, layers: int | None = None) -> int:
    """Number of features per sample in the widest layer, or in the widest of the first `layers`."""
    return max(layer.in_dim * (layer.num + layer.k + 1) for layer in network.numeric_layers[:layers])


@torch.no_grad()
def corner_of(network: Network, x: Tensor) -> float:
    """The rounding for a network as it is, on the inputs `x` ``(B, n)``: `CORNER`, or less where the edges of a layer are small.

    The last layer does not count, since nothing makes up for its size: where its edges are small, the penalty has switched the network
    off.
    """
    hidden = network.trace(x).layers[:-1]
    scales = [float(layer.numeric_deviation().max()) for layer in hidden if layer.features is not None]
    return CORNER * min(max(min(scales, default=SMALL_DEVIATION) / SMALL_DEVIATION, SMALLEST_SHARE), 1.0)


@dataclass(frozen=True)
class Objective(TrainingObjective):
    """``loss(network(x), y) + lamb R``, with ``network(x)`` the last nodes, so that labels are in the network's units.

    Where the user's own code stands between a call of the network and its layers, ``network(x)`` is what the call returns, and ``R`` is
    that of the layers in this call. A ``get_reg`` or ``reg`` of the user's own takes the place of ``R``.

    Attributes:
        network, loss_fn, lamb: see `TrainingObjective`.
        penalty: the definition of ``R``.
        singularity_avoiding, y_th: how symbolic edges are evaluated.
        corner: size of the rounding of the edges' deviations in the penalty, see `Network.trace`; exact with 0.
    """

    network: Network
    penalty: Penalty
    singularity_avoiding: bool = False
    y_th: float = 1000.0
    corner: float = 0.0

    def __call__(
        self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objective, loss and penalty, 0-dim each; in closed form where the network and the penalty have one."""
        plain = self._plain
        if plain is not None and plain.holds():
            return evaluate_plain(self, plain, x, y, first, weight)
        return self.composed(x, y, first, weight)

    @property
    def width(self) -> int:
        """Number of features per sample in the widest layer."""
        return features_per_sample(self.network)

    def predict(self, x: Tensor) -> Tensor:
        """The network's last nodes, or what a call of it returns if that is its user's own."""
        return self._passed(x, None)[0]

    def with_gradient(self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None) -> Tensor:
        """The objective, 0-dim; its gradient replaces the ``.grad`` of the network's parameters."""
        plain = self._plain
        if plain is not None and plain.holds():
            return evaluate_plain_with_gradient(self, plain, x, y, first, weight)
        return super().with_gradient(x, y, first, weight)

    def rounded(self, x: Tensor | None = None) -> Objective:
        """The objective with rounded deviations: by `CORNER`, or, given inputs `x` ``(B, n)``, by `corner_of` the network."""
        return replace(self, corner=CORNER if x is None else corner_of(self.network, x))

    def in_user_units(self, values: Tensor) -> Tensor:
        """Outputs, or labels in the same units, in the units of the user's labels."""
        return self.network.in_user_units(values)

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
