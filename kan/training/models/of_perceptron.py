"""A multilayer perceptron as a fit sees it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from kan.network.perceptron import Perceptron
from kan.training.models.trainable import Trainable
from kan.training.objectives.of_perceptron import PerceptronObjective, PerceptronPenalty
from kan.training.options import FitOptions

__all__ = ["TrainablePerceptron"]


class TrainablePerceptron(Trainable):
    """A multilayer perceptron as a fit sees it."""

    network: Perceptron

    def objective(self, loss: Callable[..., Tensor], options: FitOptions) -> PerceptronObjective:
        """The objective of the outputs, with the penalty of `options`."""
        penalty = options.penalty or PerceptronPenalty()
        assert isinstance(penalty, PerceptronPenalty)
        return PerceptronObjective(self.network, loss, options.lamb, penalty)

    def layer_sums(self, x: Tensor, options: FitOptions) -> list[Tensor]:
        """The sums of all linear layers for the inputs `x` ``(B, n)``, behind the activation function for hidden ones."""
        trace = self.network.trace(x)
        return [*trace.acts[1:], trace.output]

    def width(self, layers: int | None = None) -> int:
        """Number of nodes in the widest layer."""
        return max(self.network.width)
