r"""The multilayer perceptron, for comparison: weights on the edges, one fixed function on all hidden nodes.

    ``z_l = W_l x_l + b_l``,  ``x_{l+1} = act(z_l)``,  and the output is ``z_{L-1}``.

It has what a `Network` has for training, attribution and drawing: a trace of one pass, and the last input, which calls without data
refer to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from kan.errors import unknown_name
from kan.layers.deviation import deviation
from kan.network.last_input import LastInput

__all__ = ["ACTIVATIONS", "Perceptron", "PerceptronTrace"]

ACTIVATIONS: dict[str, nn.Module] = {
    "silu": nn.SiLU(), "relu": nn.ReLU(), "gelu": nn.GELU(), "elu": nn.ELU(), "softplus": nn.Softplus(), "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(), "identity": nn.Identity(),
}  # fmt: skip
"""Activation functions by name."""


@dataclass(frozen=True)
class PerceptronTrace:
    """The record of one pass.

    Attributes:
        weights: ``W_l``, ``(n_{l+1}, n_l)``.
        acts: inputs of the linear layers, ``(B, n_l)`` for ``l = 0 ... L-1``.
        output: ``(B, n_L)``.
    """

    weights: list[Tensor]
    acts: list[Tensor]
    output: Tensor

    @property
    def acts_scale(self) -> list[Tensor]:
        """Standard deviations of the nodes, ``(n_l,)`` for ``l = 1 ... L``."""
        return [deviation(values) for values in (*self.acts[1:], self.output)]

    @property
    def wa_forward(self) -> list[Tensor]:
        """Weights times the standard deviations of their inputs, ``(n_{l+1}, n_l)``."""
        return [weight * deviation(values) for weight, values in zip(self.weights, self.acts, strict=True)]


class Perceptron(LastInput):
    """A multilayer perceptron: structure, parameters, forward pass.

    Args:
        width: nodes per layer, inputs first. Not changed.
        act: activation function of the hidden nodes: a name of `ACTIVATIONS`, or a function of a tensor, whose parameters, if it is a
            module that has any, are trained too.
        save_act: accepted for compatibility. Activations are never kept; they are computed when asked for.
        seed: seed of the private generator that draws the initial weights; the global random state is neither read nor changed.
        device: where the parameters live.

    Attributes:
        linears: the linear layers.

    Raises:
        ValueError: for a width of less than two layers or with entries that are no positive integers, or an unknown activation function.
    """

    def __init__(
        self,
        width: Sequence[int],
        act: str | Callable[[Tensor], Tensor] = "silu",
        save_act: bool = True,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        if len(width) < 2 or any(isinstance(n, bool) or not isinstance(n, Integral) or n < 1 for n in width):
            raise ValueError(f"width must be the numbers of nodes of at least two layers, such as [2, 5, 1]; got {width!r}.")
        if isinstance(act, str) and act not in ACTIVATIONS:
            raise unknown_name("activation function", act, ACTIVATIONS)
        self.width = [int(n) for n in width]
        self.act_fun = copy.deepcopy(ACTIVATIONS[act]) if isinstance(act, str) else act
        self.save_act, self.seed = save_act, seed
        generator = torch.Generator().manual_seed(int(seed))
        # torch's own initialisation, with draws of our own.
        with torch.inference_mode(False):  # see OrdinaryModule
            self.linears = nn.ModuleList([nn.utils.skip_init(nn.Linear, n, m) for n, m in zip(self.width, self.width[1:], strict=False)])
        for linear, n in zip(self.linear_layers, self.width, strict=False):
            nn.init.kaiming_uniform_(linear.weight, a=5**0.5, generator=generator)
            nn.init.uniform_(linear.bias, -(n**-0.5), n**-0.5, generator=generator)
        self.input_width = self.width[0]
        self.to(device)

    @property
    def linear_layers(self) -> list[nn.Linear]:
        """The layers of ``linears``."""
        return list(self.linears)  # type: ignore[arg-type]

    @property
    def depth(self) -> int:
        """Number of linear layers ``L``."""
        return len(self.width) - 1

    @property
    def w(self) -> list[Tensor]:
        """The weights, ``(n_{l+1}, n_l)`` per layer."""
        return [linear.weight for linear in self.linear_layers]

    @property
    def width_in(self) -> list[int]:
        """Nodes per layer."""
        return self.width

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.w[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return self.w[0].dtype

    def forward(self, x: Any) -> Tensor:
        """The output, ``(B, n_L)``, for `x` ``(B, n_0)``, a tensor or what `as_input` makes one of."""
        if not (isinstance(x, Tensor) and x.is_floating_point() and x.dim() == 2):
            x = self.as_input(x)
        output = self.trace(x).output
        self.remember_input(x, passed=True)  # after the pass: an input that is refused is not remembered
        return output

    def trace(self, x: Tensor | None = None) -> PerceptronTrace:
        """The record of one pass over `x`, or over the last input."""
        x = self.checked_input(self.remembered_input() if x is None else x)
        acts: list[Tensor] = []
        for linear in self.linear_layers:
            acts.append(self.act_fun(x) if acts else x)
            x = linear(acts[-1])
        return PerceptronTrace(list(self.w), acts, x)
