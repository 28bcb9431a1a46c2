r"""The objective ``loss + lamb R`` of a network: one definition for every optimiser. The penalty ``R`` is that of `penalty`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from kan.network.layer_pass import Guard
from kan.network.network import Network
from kan.network.trace import FirstLayer, Trace
from kan.network.user_code.observed import observed, shown, unseen
from kan.network.user_code.own_code import PENALTY, own_call, own_methods
from kan.training.objectives.closed_form import ClosedForm
from kan.training.objectives.evaluation import evaluate, evaluate_with_gradient
from kan.training.objectives.penalty import Penalty, regularization

__all__ = ["Objective"]


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
        form = self.closed_form
        if form is not None:
            return evaluate(self, form, x, y, first, weight)
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
        form = None if torch.is_grad_enabled() or self._form is None else self._form.refresh_()
        return self._passed(x, None)[0] if form is None else form.nodes(x, self.guard)

    def with_gradient(self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None) -> Tensor:
        """The objective, 0-dim; its gradient replaces the ``.grad`` of the network's parameters."""
        form = self.closed_form
        if form is not None:
            return evaluate_with_gradient(self, form, x, y, first, weight)
        for p in self.network.parameters():
            p.grad = None
        total = self.composed(x, y, first, weight)[0]
        total.backward()
        return total.detach()

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
