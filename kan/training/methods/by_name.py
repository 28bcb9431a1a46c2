"""The method of training that a user asks for: by its name, by its class, or as an optimiser that exists already."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from kan.errors import unknown_name
from kan.solvers.lbfgs import LBFGS
from kan.training.methods.lm import LMStepper
from kan.training.methods.stepper import Stepper, TorchStepper
from kan.training.objectives.of_network import Objective

__all__ = ["OPTIMIZERS", "STEPPERS", "make_optimizer", "make_stepper"]

StepperFactory: TypeAlias = Callable[[Any, Sequence[Tensor], float], Stepper]
"""A function that makes a stepper from an objective, parameters and a learning rate."""


def _lbfgs(parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    return LBFGS(
        parameters,
        lr=lr,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_grad=0.0,
        tolerance_change=0.0,
        tolerance_ys=0.0,
    )


def _of_torch(cls: type[torch.optim.Optimizer]) -> Callable[[Iterable[Tensor], float], torch.optim.Optimizer]:
    return lambda parameters, lr: cls(parameters, lr=lr)  # type: ignore[call-arg]


OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float], torch.optim.Optimizer]] = {
    "LBFGS": _lbfgs,
    "Adam": _of_torch(torch.optim.Adam),
    **{
        name: _of_torch(cls)
        for name, cls in sorted(vars(torch.optim).items())
        if inspect.isclass(cls)
        and issubclass(cls, torch.optim.Optimizer)
        and name not in ("Optimizer", "SparseAdam", "Muon", "LBFGS", "Adam")
    },
}
"""Optimisers by name, as functions ``(parameters, lr) -> optimiser``: L-BFGS of `kan.solvers.lbfgs`, and those of torch that take dense
tensors of any shape."""


def _levenberg_marquardt(objective: Any, parameters: Sequence[Tensor], lr: float) -> Stepper:
    if not isinstance(objective, Objective):
        raise ValueError(
            "opt='LM' needs the structure of a KAN and its own outputs: it trains neither an MLP nor other predictions (pred_fn). Use "
            "'LBFGS' or 'Adam', or kan.training.residuals.fit_residuals for residuals of your own."
        )
    return LMStepper(objective, [p for p in parameters if isinstance(p, torch.nn.Parameter)])


STEPPERS: dict[str, StepperFactory] = {"LM": _levenberg_marquardt}
"""Methods by name that have not the interface of an optimiser of torch."""


FUSED = ("Adam", "AdamW", "SGD")
"""Optimisers of torch that take short steps, those of mini-batches, in the implementation that moves a parameter in one operation. It
agrees with the other one up to rounding. For the six parameters of [4, 8, 1] a step takes 0.06 ms in place of 0.22 ms."""


def make_optimizer(name: str, parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    """The optimiser called `name`.

    Raises:
        ValueError: if no optimiser has that name.
    """
    if name not in OPTIMIZERS:
        raise unknown_name("optimiser", name, (*OPTIMIZERS, *STEPPERS))
    return OPTIMIZERS[name](parameters, lr)


def _fused_optimizer(name: str, parameters: Sequence[Tensor], lr: float) -> torch.optim.Optimizer:
    """The optimiser called `name`, in torch's fused implementation if there is one that is right for these parameters."""
    suits = all(p.device.type == "cpu" and p.is_contiguous() and p.dtype in (torch.float32, torch.float64) for p in parameters)
    if name in FUSED and suits:
        optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(parameters, lr=lr, fused=True)
        return optimizer
    return make_optimizer(name, parameters, lr)


def make_stepper(
    opt: Any, objective: Any, parameters: Sequence[Tensor], lr: float, clip: float | None = None, short: bool = False
) -> Stepper:
    """The stepper of the method `opt` for an objective.

    Args:
        opt: a name in `OPTIMIZERS` or `STEPPERS`, a subclass of ``torch.optim.Optimizer``, or an optimiser of the network's parameters.
        objective: is minimised.
        parameters: are trained, unless `opt` is an optimiser, which has its own.
        lr: the learning rate, unless `opt` is an optimiser, which has its own.
        clip: largest norm of the gradient, for optimisers of torch.
        short: whether steps are short, those of mini-batches, so that what surrounds the gradient counts.

    Raises:
        TypeError: if `opt` is something else.
        ValueError: if the name is unknown, the optimiser is not of these parameters, or the method cannot clip.
    """
    if isinstance(opt, torch.optim.Optimizer):
        _check_owner(opt, objective.network)
        return TorchStepper(objective, opt, clip)
    if inspect.isclass(opt) and issubclass(opt, torch.optim.Optimizer):
        return TorchStepper(objective, _of_torch(opt)(parameters, lr), clip)
    if not isinstance(opt, str):
        raise TypeError(
            f"opt must be a name, a subclass of torch.optim.Optimizer or an optimiser; got {getattr(opt, '__name__', type(opt).__name__)}."
        )
    if opt not in STEPPERS:
        make = _fused_optimizer if short else make_optimizer
        return TorchStepper(objective, make(opt, parameters, lr), clip)
    if clip is not None:
        raise ValueError(f"clip is for first-order optimisers such as 'Adam'; {opt!r} bounds its steps itself.")
    return STEPPERS[opt](objective, parameters, lr)


def _check_owner(optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> None:
    own = {id(p) for p in network.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    strange = sum(id(p) not in own for p in held)
    if strange:
        raise ValueError(
            f"the optimiser {type(optimizer).__name__} must hold parameters of the network that is trained; {strange} of its {len(held)} "
            f"are not. Make it from model.parameters() of this model: prune and refine return new models."
        )
