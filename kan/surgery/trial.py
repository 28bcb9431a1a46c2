"""Removal of as many units of a network as a criterion allows, tried on a copy."""

from __future__ import annotations

import math
import sys
from typing import Generic, TypeVar

import torch
from torch import Tensor

from kan.network.network import Network
from kan.surgery.costs import costs
from kan.surgery.criterion import Criterion
from kan.surgery.select import select_nodes
from kan.surgery.switches import Units, connected_nodes, drop_, switches

__all__ = ["Trial"]

N = TypeVar("N", bound=Network)

ROUNDS = 8
"""Largest number of rounds; each orders the remaining units by their present costs and removes the cheapest. On 16 networks of 20 to 710
edges, five times as many rounds, with five times as many evaluations, removed one more unit from one network and none from the others."""


class Trial(Generic[N]):
    """A copy of a network in which units are switched off.

    Args:
        network: the network, which is not changed.
        units: the units of its edges.
        criterion: the criterion by which the copy is judged. The means of units that are switched off, over the samples of the criterion,
            are added to the biases.

    Attributes:
        network: the copy.
        value: value of the criterion for the copy.
    """

    def __init__(self, network: N, units: Units, criterion: Criterion) -> None:
        self.network = select_nodes(network, [range(n) for n in network.width_in])
        self.units, self.criterion, self.value = units, criterion, criterion.before
        self._switches = switches(self.network)
        self._settle()

    @torch.no_grad()
    def _settle(self) -> None:
        """Make the present state of the copy the one from which units are switched off."""
        self._trace = self.criterion.trace(self.network)
        self._start = [tensor.detach().clone() for tensor in self._switches]

    @torch.no_grad()
    def drop_(self, dropped: Tensor) -> float:
        """The value without the units `dropped`, ``(count,)``, with all others in their settled state; infinite if no path is left."""
        for tensor, start in zip(self._switches, self._start, strict=True):
            tensor.copy_(start)
        drop_(self.network, self._trace, *self.units.gone(dropped))
        self.value = self.criterion(self.network) if connected_nodes(self.network)[0] else math.inf
        return self.value

    def drop_affordable_(self, limit: float, limit_of_all: float) -> tuple[Tensor, float]:
        """Switch off all units if the value stays within `limit_of_all`, or else as many as can be found for a value within `limit`.

        Each round orders the remaining units by their estimated costs and finds by bisection how many of the cheapest can be switched off
        together. The next unit in this order exceeded the limit, and later rounds keep it. A round takes as many evaluations as the
        number of units has binary digits.

        Returns:
            Which units are switched off, ``(count,)``, and the value without any of the units.
        """
        dropped = torch.zeros(self.units.count, dtype=torch.bool, device=self.network.device)
        limit, limit_of_all = (min(value, sys.float_info.max) for value in (limit, limit_of_all))  # nothing goes beyond infinity
        would = self.drop_(~dropped)
        if would <= limit_of_all:
            return ~dropped, would
        left = ~dropped
        for _ in range(ROUNDS):
            self.drop_(torch.zeros_like(dropped))
            estimates = costs(self.network, self.units, self.criterion).masked_fill(~left, math.inf)
            order = estimates.argsort()[: int(left.sum())]
            affordable, too_many, tried = 0, len(order) + 1, len(order)
            while too_many - affordable > 1:
                if self.drop_(_marked(order[:tried], dropped)) <= limit:
                    affordable = tried
                else:
                    too_many = tried
                tried = (affordable + too_many) // 2
            self.drop_(_marked(order[:affordable], dropped))
            self._settle()
            dropped[order[:affordable]] = True
            left[order[: affordable + 1]] = False
            if not bool(left.any()):
                break
        return dropped, would


def _marked(units: Tensor, like: Tensor) -> Tensor:
    """True at `units`, False elsewhere."""
    return torch.zeros_like(like).index_fill_(0, units, True)
