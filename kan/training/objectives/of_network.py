r"""The objective ``loss + lamb R`` of a network: one definition for every optimiser. The penalty ``R`` is that of `penalty`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kan.network.layer_pass import Guard
from kan.network.network import Network
from kan.network.trace import FirstLayer, Trace
from kan.network.user_code.observed import observed, shown, unseen
from kan.network.user_code.own_code import PENALTY, own_call, own_methods
from kan.solvers.lbfgs import Program
from kan.training.objectives.back_end import BACK_END
from kan.training.objectives.base import TrainingObjective
from kan.training.objectives.closed_form import ClosedForm, Problem
from kan.training.objectives.evaluation import evaluate, evaluate_with_gradient
from kan.training.objectives.penalty import Penalty, regularization

__all__ = ["Objective", "corner_of", "features_per_sample"]

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
        form = self.closed_form
        if form is not None:
            return evaluate(self, form, x, y, first, weight)
        return self.composed(x, y, first, weight)

    @property
    def width(self) -> int:
        """Number of features per sample in the widest layer."""
        return features_per_sample(self.network)

    def predict(self, x: Tensor) -> Tensor:
        """The network's last nodes, or what a call of it returns if that is its user's own."""
        form = None if torch.is_grad_enabled() or self._form is None else self._form.refresh_()
        return self._passed(x, None)[0] if form is None else BACK_END.nodes(form, x, self.guard)

    def reads_features(self, x: Tensor) -> bool:
        """Whether an evaluation at `x` is faster if it is given the first layer's features: not if the back end keeps them itself."""
        form = self.closed_form
        return form is None or not BACK_END.keeps_features(form, x, self.lamb != 0)

    def with_gradient(self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None) -> Tensor:
        """The objective, 0-dim; its gradient replaces the ``.grad`` of the network's parameters."""
        form = self.closed_form
        if form is not None:
            return evaluate_with_gradient(self, form, x, y, first, weight)
        return super().with_gradient(x, y, first, weight)

    def descent(self, x: Tensor, y: Tensor, weight: Tensor | None, trained: Sequence[Tensor]) -> Program | None:
        """The iterations of L-BFGS on the `trained` parameters as a whole, where the back end has them."""
        form = self.closed_form
        return None if form is None else BACK_END.descent(Problem(self, form, x, y, None, weight), trained)

    def rounded(self, x: Tensor | None = None) -> Objective:
        """The objective with rounded deviations: by `CORNER`, or, given inputs `x` ``(B, n)``, by `corner_of` the network."""
        found = replace(self, corner=CORNER if x is None else corner_of(self.network, x))
        if self.lamb == 0:  # then the two are one, and what is kept for the one serves the other
            found.__dict__["_form"] = self._form
        return found

    def in_user_units(self, values: Tensor) -> Tensor:
        """Outputs, or labels in the same units, in the units of the user's labels."""
        return self.network.in_user_units(values)

    @property
    def guard(self) -> Guard:
        """How symbolic edges are evaluated."""
        return Guard(self.singularity_avoiding, self.y_th)

    @property
    def closed_form(self) -> ClosedForm | None:
        """The network as a closed form reads it, if there is one for it and the penalty at present."""
        standard = self.penalty.metric == "edge_forward_spline_n" and not self.own_penalty
        return self._form.refresh_() if self._form is not None and (self.lamb == 0 or standard) else None

    @cached_property
    def _form(self) -> ClosedForm | None:
        return ClosedForm.of(self.network)

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
