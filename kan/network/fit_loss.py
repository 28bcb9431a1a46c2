"""The loss of the last fit of a network, by which later changes of the network are judged."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

__all__ = ["FitLoss"]


class Sized(Protocol):
    """What has a number of inputs and of outputs: a network."""

    input_width: int

    @property
    def width_in(self) -> list[int]:
        """Nodes per layer of nodes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FitLoss(ABC):
    """The loss of a fit on the samples of that fit, as a function of any network with the same inputs and outputs.

    It holds references to the samples and is immutable. Copies of a network share it. Pickles, state dictionaries and checkpoints do not
    contain it.

    Attributes:
        x: inputs of the samples, ``(N, n)``, what networks are called with.
        inputs: number of inputs of the networks to which it applies.
        outputs: number of outputs of the networks to which it applies.
        squares: whether it is a mean of squares, of which the fit reports the root.
        penalised: whether the fit also had a penalty, which makes networks sparse at the cost of their loss.
        reference: the loss before the first of those changes since the fit that keep the loss; None if there was none.
    """

    x: Tensor
    inputs: int
    outputs: int
    squares: bool
    penalised: bool
    reference: float | None = None

    @abstractmethod
    def __call__(self, network: Any) -> float:
        """The loss of `network`, without the penalty."""

    @abstractmethod
    def of_output(self, network: Any, output: Tensor, rows: slice) -> Tensor | None:
        """The loss if `network` has the outputs `output` for the samples `rows`, 0-dim; None if it is not a function of these."""

    def shown(self, loss: float) -> float:
        """The loss in the form in which the fit reports it."""
        return math.sqrt(loss) if self.squares else loss

    def suits(self, network: Sized) -> bool:
        """Whether `network` has as many inputs and outputs as the fitted one."""
        return network.input_width == self.inputs and network.width_in[-1] == self.outputs

    def __deepcopy__(self, memo: dict[int, Any]) -> FitLoss:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()
