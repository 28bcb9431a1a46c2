"""The loss of a network's last fit, by which later changes of the network are judged."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from kan.network.network import Network

__all__ = ["FitLoss"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FitLoss(ABC):
    """The loss that a network was fitted with, on the samples that it was fitted to, as a function of any network of such samples.

    It refers to the samples and never changes. Copies of a network share it; pickles, state dictionaries and checkpoints do not have it.

    Attributes:
        x: inputs, ``(N, n)``.
        outputs: number of outputs of the networks that it is for.
        squares: whether it is a mean of squares, of which the fit reports the root.
        penalised: whether the fit had a penalty besides, which makes networks sparse at the cost of their loss.
        reference: the loss before the first of the changes since the fit that had to keep it, None if there was none.
    """

    x: Tensor
    outputs: int
    squares: bool
    penalised: bool
    reference: float | None = None

    @abstractmethod
    def __call__(self, network: Network) -> float:
        """The loss of `network`, without the penalty."""

    @abstractmethod
    def of_output(self, network: Network, output: Tensor, rows: slice) -> Tensor | None:
        """The loss where `network` has the values `output` for the samples `rows`, 0-dim; None if it is no function of these."""

    def shown(self, loss: float) -> float:
        """What the fit reports of a loss."""
        return math.sqrt(loss) if self.squares else loss

    def suits(self, network: Network) -> bool:
        """Whether `network` has such inputs and outputs."""
        return network.input_width == self.x.shape[1] and network.width_in[-1] == self.outputs

    def __deepcopy__(self, memo: dict[int, Any]) -> FitLoss:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()
