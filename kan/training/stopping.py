"""When a fit ends before its last step, and which state is the best."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from torch import Tensor, nn

from kan.training.history import History
from kan.training.snapshot import restore_, snapshot

__all__ = ["Stopping"]


@dataclass
class Stopping:
    """The rules by which a fit ends early, and the best state so far.

    Attributes:
        patience: number of steps without a lower loss after which the fit ends.
        time_limit: number of seconds after which the fit ends.
        keeps_best: whether the network ends with its best state.
        rescues_best: whether it does so after an end that was not planned: an interrupt, an error, or numbers that are not finite.
        started: time at which the fit began, by ``time.monotonic()``.
        lowest: the lowest loss so far.
        best: the state of the network at that loss.
    """

    patience: int | None = None
    time_limit: float | None = None
    keeps_best: bool = False
    rescues_best: bool = False
    started: float = field(default_factory=time.monotonic)
    lowest: float = math.inf
    best: list[Tensor] | None = None

    def look(self, step: int, loss: float, network: nn.Module, history: History, measured: bool = True) -> str | None:
        """Take note of a step that led to `loss`; returns why the fit ends with this step, or None if it goes on.

        A loss that is repeated instead of being `measured` for this step does not end the fit.
        """
        if loss < self.lowest:
            self.lowest, history.best_step = loss, step
            self.best = snapshot(network) if self.keeps_best or self.rescues_best else None
        if measured and self.patience is not None and step - (-1 if history.best_step is None else history.best_step) >= self.patience:
            return "patience"
        if self.time_limit is not None and time.monotonic() - self.started >= self.time_limit:
            return "time limit"
        return None

    def finish_(self, network: nn.Module, history: History) -> bool:
        """Bring `network` to its best state if it is to end with that state and has another; returns whether it was changed."""
        history.seconds = time.monotonic() - self.started
        wanted = self.keeps_best or history.stopped in ("interrupted", "not finite", "error")
        history.restored = wanted and self.best is not None and history.best_step != history.steps - 1
        if self.best is not None and history.restored:
            restore_(network, self.best)
        return history.restored
