"""Steppers, which move the parameters of a fit one step at a time: the interface of all methods, and optimisers of torch behind it."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kan.network.trace import FirstLayer
from kan.solvers.lbfgs import LBFGS, Program

__all__ = ["Stepper", "TorchStepper", "WithGradient"]


class WithGradient(Protocol):
    """An objective with a gradient, which is all that an optimiser of torch needs."""

    def with_gradient(self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None) -> Tensor:
        """The objective, a 0-dim tensor; its gradient replaces the ``.grad`` of the parameters."""


@runtime_checkable
class WithDescent(Protocol):
    """An objective that may know the iterations of L-BFGS as a whole."""

    def descent(self, x: Tensor, y: Tensor, weight: Tensor | None, trained: Sequence[Tensor]) -> Program | None:
        """The iterations on the `trained` parameters; None if there is nothing faster than a loop over evaluations."""


class Stepper(ABC):
    """A method of training, which moves parameters step by step.

    Args:
        parameters: those that it moves.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)

    @abstractmethod
    def step(self, x: Tensor, y: Tensor, first: FirstLayer | None, weight: Tensor | None) -> None:
        """Move the parameters once.

        Args:
            x, y: the samples.
            first: the first layer's features of `x`, if they are known.
            weight: the weights of the samples, ``(B,)``.
        """

    @abstractmethod
    def shrink(self) -> None:
        """Take smaller steps from now on, and forget what was learned in a step that led to a loss which is not finite."""

    def reset(self) -> None:  # noqa: B027 (may have nothing to forget)
        """Forget what held at the present parameters only: they mean another function now, or a step was interrupted."""

    def carry_(self, state: Mapping[str, Any], error: float | None) -> None:  # noqa: B027 (may have no use for it)
        """Adopt what still applies from a fit of the same network before its grids were refined.

        Args:
            state: what `state_dict` returned at the end of that fit; empty if it had another method.
            error: the mean squared error before the first step; None if the loss is another one.
        """

    def assume_deterministic(self) -> None:  # noqa: B027 (may have no use for it)
        """From now on the objective depends on the parameters alone, and not on mini-batches."""

    @property
    def known_loss(self) -> float | None:
        """The objective at the parameters that the last step ended with; None if the method does not know it."""
        return None

    def gradient_is_finite(self, x: Tensor, y: Tensor, first: FirstLayer | None, weight: Tensor | None) -> bool:
        """Whether the gradient at the present parameters is finite, which is asked when a step has not moved them."""
        return True

    @torch.no_grad()
    def save(self) -> Tensor:
        """A copy of all parameters, as one vector."""
        return torch.cat([p.reshape(-1) for p in self.parameters])

    @torch.no_grad()
    def restore_(self, saved: Tensor) -> None:
        """Set the parameters to what `save` returned."""
        pieces = saved.split([p.numel() for p in self.parameters])
        for p, piece in zip(self.parameters, pieces, strict=True):
            p.copy_(piece.view_as(p))

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What the method remembers from step to step, as tensors and plain data, not copied."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a copy of what `state_dict` returned."""


class TorchStepper(Stepper):
    """A stepper that calls an optimiser of torch, or one with the same interface.

    Args:
        objective: is minimised.
        optimizer: of the objective's parameters.
        clip: largest norm of the gradient of all parameters together, to which a longer one is scaled down.

    Raises:
        ValueError: for `clip` with an L-BFGS, whose line search compares gradients with losses.
    """

    def __init__(self, objective: WithGradient, optimizer: torch.optim.Optimizer, clip: float | None = None) -> None:
        super().__init__([p for group in optimizer.param_groups for p in group["params"]])
        self.objective, self.optimizer, self.clip = objective, optimizer, clip
        self._learns_curvature = isinstance(optimizer, (LBFGS, torch.optim.LBFGS))
        if clip is not None and self._learns_curvature:
            raise ValueError(
                "clip is for first-order optimisers such as 'Adam': L-BFGS bounds its steps by a line search, which needs true gradients."
            )

    def step(self, x: Tensor, y: Tensor, first: FirstLayer | None, weight: Tensor | None) -> None:
        """Call the optimiser once, with a closure that evaluates the objective and its gradient."""

        def closure() -> Tensor:
            total = self.objective.with_gradient(x, y, first, weight)
            if not isinstance(self.optimizer, LBFGS):  # others may view gradients as vectors
                for p in self.parameters:
                    p.grad = None if p.grad is None else p.grad.contiguous()
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.parameters, self.clip)
            return total

        if isinstance(self.optimizer, LBFGS) and isinstance(self.objective, WithDescent):
            program = self.objective.descent(x, y, weight, self.parameters)
            if program is not None:
                self.optimizer.iterate(program)
                return
        self.optimizer.step(closure)  # type: ignore[arg-type]

    def shrink(self) -> None:
        """Halve the learning rate, and forget moments and curvature."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] / 2
        self._forget()

    def reset(self) -> None:
        """Forget the curvature of L-BFGS; moments of other optimisers stay."""
        if self._learns_curvature:
            self._forget()

    def _forget(self) -> None:
        if isinstance(self.optimizer, LBFGS):
            self.optimizer.reset()
        else:
            self.optimizer.state.clear()

    def carry_(self, state: Mapping[str, Any], error: float | None) -> None:
        """Adopt the moments of all parameters that have kept their shape. The curvature of L-BFGS is not adopted: it is that of others."""
        if self._learns_curvature or not state:
            return
        own, before = self.optimizer.state_dict(), state["state"]
        fits = {
            index: entries
            for index, entries in before.items()
            if all(not isinstance(v, Tensor) or v.dim() == 0 or v.shape == self.parameters[index].shape for v in entries.values())
        }
        self.optimizer.load_state_dict({**own, "state": copy.deepcopy(fits)})

    def assume_deterministic(self) -> None:
        """Let L-BFGS use the last evaluation of a step as the first one of the next."""
        if isinstance(self.optimizer, LBFGS):
            self.optimizer.deterministic = True

    @property
    def known_loss(self) -> float | None:
        """The objective at the parameters that the last step of L-BFGS ended with; None for other optimisers."""
        return self.optimizer.known_loss if isinstance(self.optimizer, LBFGS) else None

    def gradient_is_finite(self, x: Tensor, y: Tensor, first: FirstLayer | None, weight: Tensor | None) -> bool:
        """Evaluate the gradient, and say whether it is finite."""
        self.objective.with_gradient(x, y, first, weight)
        return all(math.isfinite(float(p.grad.sum())) for p in self.parameters if p.grad is not None)

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimiser; of L-BFGS the curvature pairs."""
        return self.optimizer.plain_state() if isinstance(self.optimizer, LBFGS) else self.optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a copy of what `state_dict` returned, with the present learning rates and implementation."""
        names = ("lr", "fused", "foreach")
        kept = [{name: group[name] for name in names if name in group} for group in self.optimizer.param_groups]
        own = copy.deepcopy(dict(state))
        if isinstance(self.optimizer, LBFGS):
            self.optimizer.load_plain_state(own)
        else:
            self.optimizer.load_state_dict(own)
        for group, settings in zip(self.optimizer.param_groups, kept, strict=True):
            group.update(settings)
