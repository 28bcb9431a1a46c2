r"""Levenberg-Marquardt: second-order training, down to round-off.

Around the present parameters the objective is modelled by

    ``F(q + p) = F + g'p + p'(A + P)p / 2``,   ``(A + P + mu I) p = -g``,

with ``A`` the Gauss-Newton matrix of the loss, ``P`` that of the penalty and ``q`` the coordinates of
`kan.training.least_squares.coordinates`. The damping ``mu`` follows the gain ratio, the decrease of ``F`` over the one that the model
foretold.

Least squares, ``F = |r|^2``: with ``J`` the Jacobian of ``r``, ``A = 2 J'J`` and ``g = 2 J'r``. The step is found

- from the residuals' side, ``p = -J'(J J' + mu/2 I)^-1 r``, where there are fewer of them than parameters;
- by the Cholesky factors of ``J'J + mu/2 I`` where that matrix is well conditioned;
- by orthogonal triangularisation of ``J``, which does not square its condition, where it is not.

Other losses: ``A = J'L''J`` with ``L''`` the second derivatives of the loss with respect to the outputs, sample by sample, less their
negative part (generalised Gauss-Newton); ``g`` is the exact gradient.

Penalty: ``R`` is a function of deviations ``sigma_ij = sqrt(w_ij' C_i w_ij)`` of edges. Where it grows with one of them, at the rate
``rho_ij``, it lies below the parabola ``rho_ij w_ij' C_i w_ij / (2 sigma_ij)`` that touches it (iteratively reweighted least squares):
``P_ij = rho_ij C_i / sigma_ij``. The gradient is exact.

Anchor: ``F + eps |q - q_0|^2`` keeps coordinates that the samples hardly determine near ``q_0``.

Samples are taken in chunks, so that memory is bounded whatever their number; parameters need ``O(P^2)``. Everything is computed in
float64, on a copy of the network if that is in another format.

References
    K. Levenberg, "A method for the solution of certain non-linear problems in least squares", 1944, doi:10.1090/qam/10666.
    D. W. Marquardt, 1963, doi:10.1137/0111030. K. Madsen, H. B. Nielsen, O. Tingleff, "Methods for non-linear least squares problems",
    2nd edition, 2004, section 3.2 (the damping). N. N. Schraudolph, "Fast curvature matrix-vector products", 2002,
    doi:10.1162/08997660260028683 (generalised Gauss-Newton).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["Chunk", "Damping", "Linearisation", "Model", "Problem", "damped_cholesky", "decrease", "improve_", "normal_equations"]

Chunk = tuple[Tensor, Tensor]
"""Some rows of the Jacobian, transposed, ``(P, R)``, and their residuals ``(R,)``."""
ILL_CONDITIONED = 1e10
"""Condition of ``J'J + mu/2 I`` from which the step is found by orthogonal triangularisation."""
GRAM_BLOCK = 64
"""Rows of ``J'J`` that are computed at a time, up to the diagonal. With 90 to 1000 coordinates this takes 0.6 to 0.8 times as long as the
whole product (one core, float64)."""
TRIALS = 12
"""Steps tried in a row, each with more damping, before giving up."""
FIRST_DAMPING = 1e-3
"""The first ``mu``, relative to the largest diagonal entry of ``A``."""


class Model(Protocol):
    """The model of an objective around a point.

    Attributes:
        gradient: ``g`` ``(P,)``.
        largest: the largest diagonal entry of ``A + P``.
    """

    gradient: Tensor
    largest: float

    def step(self, mu: float) -> Tensor:
        """The step ``p`` ``(P,)`` with the damping `mu`; NaN where more damping is needed."""

    def foretold(self, step: Tensor, mu: float) -> float:
        """Decrease of the objective that the model predicts for ``step(mu)``."""


class Linearisation:
    """The model of the objective around some point.

    Args:
        chunks: gives the rows of the Jacobian, from the start whenever it is called.
        size: number of coordinates ``P``.
        rows: number of rows in all.
        gradient: ``g`` ``(P,)``, where it is not ``2 J'r``; residuals are not looked at then.
        penalty: ``P`` ``(P, P)``.
        anchor: ``eps`` and ``q - q_0`` ``(P,)``.
        normal: gives ``J'J`` and ``J'r`` from the chunks; `normal_equations` by default.
    """

    def __init__(
        self,
        chunks: Callable[[], Iterable[Chunk]],
        size: int,
        rows: int,
        gradient: Tensor | None = None,
        penalty: Tensor | None = None,
        anchor: tuple[float, Tensor] | None = None,
        normal: Callable[[Iterable[Chunk], int], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        normal = normal_equations if normal is None else normal
        self._chunks, self._size, self._anchor = chunks, size, anchor
        self._orthogonal = gradient is None and penalty is None
        self._gram = self._rows = None
        if self._orthogonal and rows < size and anchor is None:
            parts = list(chunks())
            self._rows = torch.cat([part for part, _ in parts], 1), torch.cat([residual for _, residual in parts])
            self.gradient = 2 * (self._rows[0] @ self._rows[1])
            self.largest = 2 * float(self._rows[0].square().sum(1).amax())
            return
        self._gram, total = normal(chunks(), size)
        self._gram *= 2
        self.gradient = 2 * total if gradient is None else gradient
        if penalty is not None:
            self._gram += penalty
        if anchor is not None:
            self._gram.diagonal().add_(2 * anchor[0])
            self.gradient = self.gradient + 2 * anchor[0] * anchor[1]
        self.largest = float(self._gram.diagonal().amax())

    def step(self, mu: float) -> Tensor:
        """``p`` with the damping `mu`."""
        if self._rows is not None:
            rows, residual = self._rows
            factor = damped_cholesky(rows.t() @ rows, mu / 2)
            if factor is not None:
                return -(rows @ torch.cholesky_solve(residual[:, None], factor)[:, 0])
        elif self._gram is not None:
            factor = damped_cholesky(self._gram, mu, careful=self._orthogonal)
            if factor is not None:
                return -torch.cholesky_solve(self.gradient[:, None], factor)[:, 0]
        if not self._orthogonal:
            return torch.full_like(self.gradient, math.nan)  # more damping is needed
        triangle = torch.linalg.qr(torch.cat([self._triangle, math.sqrt(mu / 2) * self._identity]), mode="r").R
        solved: Tensor = torch.linalg.solve_triangular(triangle[:-1, :-1], triangle[:-1, -1:], upper=True)
        return -solved[:, 0]

    def foretold(self, step: Tensor, mu: float) -> float:
        """Decrease of the objective that the model expects of ``step(mu)``."""
        return decrease(self.gradient, step, mu)

    @property
    def _identity(self) -> Tensor:
        return torch.eye(self._size, self._size + 1, dtype=self.gradient.dtype, device=self.gradient.device)

    @cached_property
    def _triangle(self) -> Tensor:
        """Triangular factor of ``[J r]``, found chunk by chunk."""
        triangle = self.gradient.new_zeros(0, self._size + 1)
        if self._anchor is not None:
            share, away = self._anchor
            triangle = math.sqrt(share) * (self._identity + nn.functional.pad(away[:, None], (self._size, 0)))
        for part, residual in self._chunks():
            triangle = torch.linalg.qr(torch.cat([triangle, torch.cat([part.t(), residual[:, None]], 1)]), mode="r").R
        missing = self._size + 1 - len(triangle)
        return nn.functional.pad(triangle, (0, 0, 0, max(missing, 0)))


def normal_equations(chunks: Iterable[Chunk], size: int) -> tuple[Tensor, Tensor]:
    """``J'J`` ``(P, P)`` and ``J'r`` ``(P,)`` from chunks of the Jacobian of a problem with `size` coordinates ``P``."""
    gram: Tensor | None = None
    for part, residual in chunks:
        if gram is None:
            gram, total = part.new_zeros(size, size), part.new_zeros(size)
        for start in range(0, size, GRAM_BLOCK):  # the lower triangle alone
            end = min(start + GRAM_BLOCK, size)
            gram[start:end, :end].addmm_(part[start:end], part[:end].t())
        total += part @ residual
    assert gram is not None
    return gram.tril_().add(gram.tril(-1).t()), total


class Problem(Protocol):
    """What is minimised, at its present parameters."""

    def value(self) -> float:
        """``F``."""

    def linearise(self) -> Model:
        """The model of ``F`` around here."""

    def move_(self, step: Tensor) -> None:
        """Add `step` ``(P,)`` to the coordinates."""

    def save(self) -> list[Tensor]:
        """The parameters."""

    def restore_(self, saved: list[Tensor]) -> None:
        """Back to what `save` returned."""


@dataclass
class Damping:
    """The damping ``mu`` (None until the first step) and the factor by which it grows at the next failure."""

    mu: float | None = None
    growth: float = 2.0

    def after(self, gain: float) -> None:
        """Follow the gain ratio of a step; one that is not positive was undone."""
        assert self.mu is not None
        if gain > 0:
            self.mu *= max(1 / 3, 1 - (2 * min(gain, 1.0) - 1) ** 3)
            self.growth = 2.0
        else:
            self.mu *= self.growth
            self.growth *= 2


def improve_(problem: Problem, damping: Damping, value: float | None = None) -> float | None:
    """One step, of as many trials as it takes, in place.

    Args:
        problem: its parameters are moved.
        damping: is brought up to date.
        value: ``F`` here, if known.

    Returns:
        ``F`` after the step; None if nothing better was found, with the parameters as they were.
    """
    value = problem.value() if value is None else value
    model = problem.linearise()
    if not (math.isfinite(value) and math.isfinite(model.largest) and bool(torch.isfinite(model.gradient).all())):
        return None
    if damping.mu is None:
        damping.mu = FIRST_DAMPING * model.largest
    least = 1e-3 * torch.finfo(model.gradient.dtype).eps ** 2 * model.largest
    saved, before = problem.save(), replace(damping)
    try:
        for _ in range(TRIALS):
            damping.mu = max(damping.mu, least)
            step = model.step(damping.mu)
            foretold = model.foretold(step, damping.mu)
            if foretold > 0:  # neither is NaN
                problem.move_(step)
                new = problem.value()
                gain = (value - new) / foretold if math.isfinite(new) else -1.0
                damping.after(gain)
                if gain > 0:
                    return new
                problem.restore_(saved)
            elif foretold == 0:
                break
            else:
                damping.after(-1.0)
    except BaseException:  # an interrupt in the middle of a trial
        problem.restore_(saved)
        raise
    damping.mu, damping.growth = before.mu, before.growth
    return None


def decrease(gradient: Tensor, step: Tensor, mu: float) -> float:
    """``-(g'p + p'Hp/2)`` for the step with ``(H + mu I) p = -g``."""
    return 0.5 * float(mu * step.dot(step) - gradient.dot(step))


def damped_cholesky(matrix: Tensor, damping: float, careful: bool = True) -> Tensor | None:
    """Lower factor of ``matrix + damping I``; None if that is not positive definite or, when being careful, ill-conditioned."""
    damped = matrix.clone()
    damped.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(damped)
    pivots = factor.diagonal()
    if bool(failed) or not bool(torch.isfinite(pivots).all()):
        return None
    return None if careful and float(pivots.amax() / pivots.amin()) ** 2 > ILL_CONDITIONED else factor
