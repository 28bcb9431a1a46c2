r"""How much worse a changed network is: by the loss of its last fit, or by how far its outputs have moved.

With labels, the loss of the last fit on its samples decides. Networks that have not been fitted are compared, on their last input, with
what they computed there before:

    ``D^2 = mean_k [mean_b (y'_bk - y_bk)^2 / var_b y_bk]``,

the change of the outputs ``y`` relative to their spread, which is 0 to begin with.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from kan.network.fit_loss import FitLoss
from kan.network.network import Network

__all__ = ["TOLERANCE", "Criterion", "LossCriterion", "criterion_of"]

TOLERANCE = 0.05
"""Growth of the loss, as a share of it, that nothing goes beyond by default and nothing without a warning; for networks without labels, how
far their outputs may move, as a share of their spread."""
SPARSE_SHARE = 1e-4
"""Growth of the mean squared error up to which all that has low scores goes after a fit with a penalty, as a share of what constant outputs
would lose: another error of 1 % of the labels' spread. Such a fit has given accuracy for few edges already. The networks [2, 5, 1]
of the hello story, with the seeds 0 to 9 and 42, lose shares of 5e-5 to 9e-5 as they become [2, 1, 1], which is 19 to 43 % of their root
mean squared error; pruning that spoiled other laws lost 1e-3 or more."""
EXACT_SHARE = 1e-12
"""The same for all losses, an error of a millionth of the labels' spread. It matters where the loss itself is near round-off."""


class Criterion:
    """Judges networks that are made from one network, by how far their outputs have moved.

    Args:
        network: the one; it has seen data.

    Attributes:
        labelled: whether this is a loss.
        x: ``(N, n)``, the inputs on which networks are compared.
        before: value of the network itself.
    """

    labelled = False

    def __init__(self, network: Network) -> None:
        self.x = self._inputs(network)
        with torch.no_grad():
            self._outputs = network.trace(self.x).output
        spread = self._outputs.var(dim=0, correction=0)
        round_off = torch.finfo(spread.dtype)
        self._spread = spread.clamp_min(max(round_off.eps * float(spread.amax()), round_off.tiny))
        self.before = self(network)

    def _inputs(self, network: Network) -> Tensor:
        return network.remembered_input()

    @torch.no_grad()
    def __call__(self, network: Network) -> float:
        """The value of `network`; less is better."""
        return float(self._moved(network.trace(self.x).output, slice(None)))

    def limit(self, tolerance: float | None = None) -> float:
        """The largest value that counts as no growth, by a share of the loss or of the spread of the outputs, or by default."""
        return (TOLERANCE if tolerance is None else tolerance) ** 2

    def mark_(self, network: Network, kept: bool) -> None:
        """Let `network`, made from the one, know whether the limit was kept."""

    def limit_of_all(self) -> float:
        """The largest value for which all that has low scores goes."""
        return self.limit()

    def of_output(self, network: Network, output: Tensor, rows: slice) -> Tensor:
        """A smooth measure of the `output` of `network` for the inputs ``x[rows]``, 0-dim, by which changes are ranked."""
        return self._moved(output, rows)

    def shown(self, value: float) -> float:
        """What is reported of a value."""
        return math.sqrt(value)

    def growth(self, after: float) -> str:
        """A clause that says what becomes of the value."""
        return f"the outputs on the last input move by {self.shown(after):.3g} of their spread"

    def spared(self, would: float, after: float) -> str:
        """A clause that says what would become of the value without what is kept, and what becomes of it."""
        if would == math.inf:
            return "no path would lead from the inputs to the outputs"
        without, now = (f"{self.shown(value):.3g}" for value in (would, after))
        return f"the outputs on the last input would move by {without} of their spread; with them it is {now}"

    def _moved(self, output: Tensor, rows: slice) -> Tensor:
        return ((output - self._outputs[rows]).square().mean(dim=0) / self._spread).mean()


class LossCriterion(Criterion):
    """By the loss of the last fit.

    Args:
        network: the network.
        loss: of its last fit.
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

    def __call__(self, network: Network) -> float:
        """The loss."""
        return self.loss(network)

    def limit(self, tolerance: float | None = None) -> float:
        """The largest loss that counts as no growth, by a share of it; by default all such changes since the last fit share one."""
        start, share = (self._start, TOLERANCE) if tolerance is None else (self.before, tolerance)
        return max(self.before + EXACT_SHARE * self._gained, start + share * abs(start))

    def limit_of_all(self) -> float:
        """The largest loss for which all that has low scores goes."""
        return max(self.limit(), self._start + SPARSE_SHARE * self._gained) if self.loss.squares and self.loss.penalised else self.limit()

    def mark_(self, network: Network, kept: bool) -> None:
        """Let `network` refer to where such changes started, or start with it."""
        network.fit_loss = replace(self.loss, reference=self._start if kept else None)

    @property
    def _start(self) -> float:
        """The loss that growth is measured from."""
        return self.before if self.loss.reference is None else min(self.before, self.loss.reference)

    def of_output(self, network: Network, output: Tensor, rows: slice) -> Tensor:
        """The loss, or how far outputs move where that is no function of them."""
        loss = self.loss.of_output(network, output, rows)
        return self._moved(output, rows) if loss is None else loss

    def shown(self, value: float) -> float:
        """The loss as the fit reports it."""
        return self.loss.shown(value)

    def growth(self, after: float) -> str:
        """A clause that says from what to what the loss grows."""
        return f"the loss on the samples of the last fit grows from {self.shown(self.before):.4g} to {self.shown(after):.4g}"

    def spared(self, would: float, after: float) -> str:
        """A clause that says what the loss would be without what is kept, and what it is."""
        if would == math.inf:
            return super().spared(would, after)
        before, without, now = (f"{self.shown(value):.4g}" for value in (self.before, would, after))
        return f"the loss on the samples of the last fit would grow from {before} to {without}; with them it is {now}"


def criterion_of(network: Network) -> Criterion:
    """By the loss of the last fit if `network` had one on such samples, by its outputs for the last input otherwise.

    Raises:
        ValueError: if it has neither been fitted nor seen data.
    """
    loss = network.fit_loss
    return LossCriterion(network, loss) if loss is not None and loss.suits(network) else Criterion(network)
