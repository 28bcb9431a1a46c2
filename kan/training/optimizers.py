"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from kan.errors import unknown_name
from kan.training.lbfgs import LBFGS

__all__ = ["OPTIMIZERS", "make_optimizer"]


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


def _adam(parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr)


OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float], torch.optim.Optimizer]] = {"LBFGS": _lbfgs, "Adam": _adam}
"""Name to factory ``(parameters, lr) -> optimiser``."""


def make_optimizer(name: str, parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    """The optimiser called `name`.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in OPTIMIZERS:
        raise unknown_name("optimiser", name, OPTIMIZERS)
    return OPTIMIZERS[name](parameters, lr)
