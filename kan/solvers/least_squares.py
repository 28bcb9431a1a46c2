"""Levenberg-Marquardt for residuals that are a function of a vector, with each unknown scaled.

The unknowns are scaled in every step so that the columns of the Jacobian have norm one (Marquardt's scaling), and the steps do not
depend on the units of the unknowns. The method is that of `kan.solvers.levenberg_marquardt`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kan.solvers.levenberg_marquardt import Damping, Linearisation, minimise_

__all__ = ["Evaluation", "minimise_residuals"]

Array: TypeAlias = NDArray[np.float64]
Evaluation: TypeAlias = tuple[Array, Callable[[], Array]]
"""The residuals ``(R,)`` at a point, and a function that gives their Jacobian ``(R, P)`` there."""

DAMPING_FALL = 10.0
"""Largest factor by which the damping falls in a step. In 150 fits of sums of products that were taken from searches for laws, four errors
were smaller by a fifth or more than with the usual factor of three, two of them by a factor of ten, and none was larger by 1 %."""


def minimise_residuals(
    evaluate: Callable[[Array], Evaluation],
    q: Array,
    steps: int,
    tolerance: float,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Array, float]:
    """Minimise the sum of the squares of residuals that are a function of a vector.

    Args:
        evaluate: gives the residuals at a point, and a function for their Jacobian there.
        q: the start ``(P,)``.
        steps: largest number of steps.
        tolerance: relative decrease of the sum below which a step is the last one.
        stop: asked before every step whether to end.

    Returns:
        The last point, and the sum of the squares there, which is the smallest of all points that were evaluated.

    >>> def evaluate(q):
    ...     return np.array([10 * (q[1] - q[0] ** 2), 1 - q[0]]), lambda: np.array([[-20 * q[0], 10.0], [-1.0, 0.0]])
    >>> q, value = minimise_residuals(evaluate, np.array([-1.2, 1.0]), 100, 1e-6)
    >>> np.round(q, 9).tolist()
    [1.0, 1.0]
    """
    problem = _Residuals(evaluate, q)
    value = minimise_(problem, steps if len(q) else 0, tolerance, stop, damping=Damping(fall=DAMPING_FALL))
    return problem.q, value


class _Residuals:
    """A sum of squares as a `Problem`; its coordinates are the unknowns, each times the norm of its column of the Jacobian."""

    def __init__(self, evaluate: Callable[[Array], Evaluation], q: Array) -> None:
        self.q, self._evaluate, self._found = q, evaluate, evaluate(q)
        self._norms = np.ones_like(q)

    def value(self) -> float:
        return float(self._found[0] @ self._found[0])

    def linearise(self) -> Linearisation:
        residuals, jacobian = self._found[0], self._found[1]()
        self._norms = np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300)
        rows = torch.from_numpy((jacobian / self._norms).T), torch.from_numpy(residuals)
        return Linearisation(lambda: [rows], len(self.q), len(residuals))

    def move_(self, step: Tensor) -> None:
        self.q = self.q + step.numpy() / self._norms
        self._found = self._evaluate(self.q)

    def save(self) -> tuple[Array, Evaluation]:
        return self.q, self._found

    def restore_(self, saved: tuple[Array, Evaluation]) -> None:
        self.q, self._found = saved
