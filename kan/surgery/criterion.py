r"""Measures of how much worse a changed network is: the loss of its last fit, or the change of its outputs.

If the network has been fitted, the loss of the last fit on the samples of that fit decides. Otherwise the outputs ``y'`` of the changed
network on the last input are compared with the outputs ``y`` of the original one,

    ``D^2 = mean_k [mean_b (y'_bk - y_bk)^2 / var_b y_bk]``.

This is the change of the outputs relative to their spread, and 0 for the original network.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from kan.network.fit_loss import FitLoss
from kan.network.network import Network
from kan.network.trace import Trace
from kan.network.user_code.inheritance import portable_call

__all__ = ["TOLERANCE", "Criterion", "LossCriterion", "criterion_of"]

TOLERANCE = 0.05
"""Largest growth of the loss by pruning without thresholds, relative to the loss. If thresholds are given, pruning warns of a larger
growth. For networks without labels it is the change of the outputs, as a share of their spread."""
SPARSE_SHARE = 1e-4
"""Growth of the mean squared error up to which everything with a low score is removed after a fit with a penalty. It is a share of the
growth that constant outputs would cause, and corresponds to an additional error of 1 % of the labels' spread. Such a fit has already traded
accuracy for fewer edges. When the networks [2, 5, 1] of the hello story, with the seeds 0 to 9 and 42, are pruned to [2, 1, 1], they lose
shares of 5e-5 to 9e-5, which is 19 to 43 % of their root mean squared error. Prunings that spoiled other laws lost 1e-3 or more."""
EXACT_SHARE = 1e-12
"""Growth of any loss that always counts as none, as a share of the growth that constant outputs would cause. It corresponds to an error of
a millionth of the labels' spread, and matters if the loss itself is near round-off."""


class Criterion:
    """The change of the outputs, by which networks that are made from one original network are judged.

    Args:
        network: the original network, which has seen data.

    Attributes:
        labelled: whether the value is a loss.
        x: the inputs on which networks are compared, ``(N, n)``.
        before: value of the original network.
    """

    labelled = False

    def __init__(self, network: Network) -> None:
        self.x = self._inputs(network)
        with torch.no_grad():
            self._outputs = self.trace(network).output
        spread = self._outputs.var(dim=0, correction=0)
        round_off = torch.finfo(spread.dtype)
        self._spread = spread.clamp_min(max(round_off.eps * float(spread.amax()), round_off.tiny))
        self.before = self(network)

    def _inputs(self, network: Network) -> Tensor:
        return network.remembered_input()

    def trace(self, network: Network, x: Tensor | None = None) -> Trace:
        """The record of a pass of `x`, rows of the criterion's, or of all of them: what the layers saw passes through these alone."""
        return network.layer_trace(self.x if x is None else x)

    @torch.no_grad()
    def __call__(self, network: Network) -> float:
        """The value of `network`; smaller is better."""
        return float(self._moved(self.trace(network).output, slice(None)))

    def limit(self, tolerance: float | None = None) -> float:
        """The largest value that counts as no growth, for a tolerance relative to the loss or to the spread of the outputs."""
        return (TOLERANCE if tolerance is None else tolerance) ** 2

    def mark_(self, network: Network, kept: bool) -> None:
        """Record in `network`, made from the original one, whether the limit was `kept`; without labels nothing is recorded."""

    def limit_of_all(self) -> float:
        """The largest value for which everything with a low score is removed."""
        return self.limit()

    def of_output(self, network: Network, output: Tensor, rows: slice) -> Tensor:
        """A differentiable measure of the `output` of `network` for the inputs ``x[rows]``, 0-dim, by which removals are ranked."""
        return self._moved(output, rows)

    def shown(self, value: float) -> float:
        """The value in the form in which it is reported to the user."""
        return math.sqrt(value)

    def growth(self, after: float) -> str:
        """A clause for messages that says how large the value has become."""
        return f"the outputs on the last input move by {self.shown(after):.3g} of their spread"

    def spared(self, would: float, after: float) -> str:
        """A clause for messages that gives the value if everything with a low score were removed, and the value `after` pruning."""
        if would == math.inf:
            return "no path would lead from the inputs to the outputs"
        without, now = (f"{self.shown(value):.3g}" for value in (would, after))
        return f"the outputs on the last input would move by {without} of their spread; with them it is {now}"

    def _moved(self, output: Tensor, rows: slice) -> Tensor:
        return ((output - self._outputs[rows]).square().mean(dim=0) / self._spread).mean()


class LossCriterion(Criterion):
    """The loss of the last fit, by which networks that are made from one original network are judged.

    Args:
        network: the original network.
        loss: the loss of its last fit.
    """

    labelled = True

    def __init__(self, network: Network, loss: FitLoss) -> None:
        self.loss = loss
        super().__init__(network)
        with torch.no_grad():
            constant = loss.of_output(network, self._outputs.mean(dim=0).repeat(len(self.x), 1), slice(None))
        self._gained = 0.0 if constant is None else max(float(constant) - self.before, 0.0)

    def _inputs(self, network: Network) -> Tensor:
        return self.loss.x.to(network.device, network.dtype)

    def trace(self, network: Network, x: Tensor | None = None) -> Trace:
        """The record of a call of the network with `x`, rows of the fit's samples, or with all of them."""
        return network.trace(self.x if x is None else x)

    def __call__(self, network: Network) -> float:
        """The loss of `network`; smaller is better."""
        return self.loss(network)

    def limit(self, tolerance: float | None = None) -> float:
        """The largest loss that counts as no growth, for a relative tolerance.

        By default the tolerance is `TOLERANCE`, for all changes since the last fit together.
        """
        start, share = (self._start, TOLERANCE) if tolerance is None else (self.before, tolerance)
        return max(self.before + EXACT_SHARE * self._gained, start + share * abs(start))

    def limit_of_all(self) -> float:
        """The largest loss for which everything with a low score is removed; see `SPARSE_SHARE`."""
        return max(self.limit(), self._start + SPARSE_SHARE * self._gained) if self.loss.squares and self.loss.penalised else self.limit()

    def mark_(self, network: Network, kept: bool) -> None:
        """Record in `network` the loss before the first change if the limit was `kept`; otherwise growth is measured from `network` on."""
        network.fit_loss = replace(self.loss, reference=self._start if kept else None)

    @property
    def _start(self) -> float:
        """The loss from which growth is measured."""
        return self.before if self.loss.reference is None else min(self.before, self.loss.reference)

    def of_output(self, network: Network, output: Tensor, rows: slice) -> Tensor:
        """The loss of the outputs, or their change if the loss is not a function of the outputs."""
        loss = self.loss.of_output(network, output, rows)
        return self._moved(output, rows) if loss is None else loss

    def shown(self, value: float) -> float:
        """The loss in the form in which `fit` reports it."""
        return self.loss.shown(value)

    def growth(self, after: float) -> str:
        """A clause for messages that gives the loss before and after."""
        return f"the loss on the samples of the last fit grows from {self.shown(self.before):.4g} to {self.shown(after):.4g}"

    def spared(self, would: float, after: float) -> str:
        """A clause for messages that gives the loss if everything with a low score were removed, and the loss `after` pruning."""
        if would == math.inf:
            return super().spared(would, after)
        before, without, now = (f"{self.shown(value):.4g}" for value in (self.before, would, after))
        return f"the loss on the samples of the last fit would grow from {before} to {without}; with them it is {now}"


def criterion_of(network: Network) -> Criterion:
    """The criterion by which changes of `network` are judged.

    It is the loss of the last fit if `network` had one with its present inputs and outputs, and otherwise the change of its outputs. It is
    that of the layers' outputs, too, if a network that is made from `network` cannot be called in the same way.

    Raises:
        ValueError: if it has neither been fitted nor seen data.
    """
    loss = network.fit_loss
    applies = loss is not None and loss.suits(network) and portable_call(network)
    return LossCriterion(network, loss) if loss is not None and applies else Criterion(network)
