"""Methods that train many plain networks of one structure at once: Adam and Levenberg-Marquardt and L-BFGS.

Each network takes the steps that `fit` would take with it alone. Adam works entry by entry, so that one optimiser of the stacked parameters
equals one for each network. In Levenberg-Marquardt every network has its own damping and its own trials, in L-BFGS its own curvature pairs.
A network whose trials find no lower loss takes no further steps until the grids move.

Where the compiled kernels know the networks, the threads of torch share out single networks. Otherwise the networks are divided into blocks
of a few, which fit into the processor's cache, and the blocks are distributed over the threads. Neither depends on the number of threads,
and so the results do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kan.layers.features import unfold
from kan.solvers.lbfgs import LBFGS
from kan.training.methods.by_name import make_optimizer
from kan.training.together.lm import BatchedLM
from kan.training.together.method import BatchedMethod, quietly
from kan.training.together.stack import Mapper, SharedSamples, Stack
from kan.training.together.stack_pass import value_and_gradients

__all__ = ["METHODS", "BatchedAdam", "BatchedLBFGS"]


class BatchedAdam(BatchedMethod):
    """Adam for all networks at once."""

    def __init__(self, stack: Stack, lr: float, mapper: Mapper) -> None:
        super().__init__(stack, lr, mapper)
        self._trained = [p for p, trained in zip(stack.parameters, stack.trained, strict=True) if trained]
        self._optimizer = torch.optim.Adam(self._trained, lr=lr)
        self._current = False

    def step(self, shared: SharedSamples, active: Sequence[int]) -> Tensor:
        """Take one step. The evaluation after it also gives the gradient of the next step."""
        if not self._current:
            self._evaluate(shared)
        self._optimizer.step()
        return self._evaluate(shared)

    def _evaluate(self, shared: SharedSamples) -> Tensor:
        stack, compiled = self.stack, self.stack.compiled
        if compiled is not None:
            for p in self._trained:
                p.grad = torch.empty_like(p) if p.grad is None else p.grad
            gradients = [p.grad for p in stack.parameters]
            self._current = True
            return self._numbers(lambda s: compiled.value_and_gradients(s, shared.batch, gradients))
        blocks = stack.blocks(stack.split(range(stack.count), len(shared)))
        found = list(self.mapper(quietly(lambda block: value_and_gradients(block, shared.features)), blocks))
        for l in range(len(stack.layers)):
            part = slice(3 * l, 3 * l + 3)
            arguments = [p.flatten(0, 1) for p in (*stack.parameters[part], stack.masks[l])]
            grad = torch.cat([grads[l] for _, grads in found]).flatten(0, 1)
            for p, own in zip(stack.parameters[part], unfold(grad, arguments, (*stack.trained[part], False)), strict=False):
                p.grad = None if own is None else own.view_as(p)
        self._current = True
        return torch.cat([values for values, _ in found])

    def reset(self, ids: Sequence[int]) -> None:
        """Discard the gradient; the moments of Adam are kept."""
        self._current = False

    def state_of(self, s: int) -> dict[str, Any]:
        """The state of ``torch.optim.Adam`` for network `s` alone."""
        state = self._optimizer.state_dict()
        own = {i: {key: v[s].clone() if v.dim() else v.clone() for key, v in entries.items()} for i, entries in state["state"].items()}
        return {**state, "state": own}


class BatchedLBFGS(BatchedMethod):
    """L-BFGS for all networks, each with its own curvature pairs, by the compiled kernels."""

    def __init__(self, stack: Stack, lr: float, mapper: Mapper) -> None:
        super().__init__(stack, lr, mapper)
        self._optimizers = [self._optimizer(s, lr) for s in range(stack.count)]

    def _optimizer(self, s: int, lr: float) -> LBFGS:
        parameters = [p[s] for p, trained in zip(self.stack.parameters, self.stack.trained, strict=True) if trained]
        found = make_optimizer("LBFGS", parameters, lr)
        assert isinstance(found, LBFGS)
        found.deterministic = True
        return found

    def step(self, shared: SharedSamples, active: Sequence[int]) -> Tensor:
        """Take one step of up to 20 iterations with each network."""
        compiled = self.stack.compiled
        assert compiled is not None

        def descend(s: int) -> None:
            self._optimizers[s].iterate(compiled.descent(s, shared.batch, self.stack.trained))

        for _ in self.mapper(quietly(descend), active):
            pass
        found = [optimizer.known_loss for optimizer in self._optimizers]
        return self.stack.parameters[0].new_tensor([math.nan if loss is None else loss for loss in found])

    def reset(self, ids: Sequence[int]) -> None:
        """Forget the curvature of the networks `ids`."""
        for s in ids:
            self._optimizers[s].reset()

    def state_of(self, s: int) -> dict[str, Any]:
        """The state of `TorchStepper` for network `s`."""
        return self._optimizers[s].plain_state()


METHODS: dict[str, type[BatchedMethod]] = {"Adam": BatchedAdam, "LM": BatchedLM, "LBFGS": BatchedLBFGS}
"""The methods of `fit` that can train many networks at once, by name."""
