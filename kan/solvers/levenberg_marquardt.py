r"""Levenberg-Marquardt: minimisation by second-order steps, down to round-off.

Around the present coordinates ``q`` the objective is modelled by

    ``F(q + p) = F + g'p + p'(A + P)p / 2``,   ``(A + P + mu I) p = -g``,

with ``g`` the gradient, ``A`` the Gauss-Newton matrix of the loss and ``P`` that of a penalty. The damping ``mu`` follows the gain ratio,
which is the actual decrease of ``F`` divided by the decrease that the model predicts.

Least squares, ``F = |r|^2``: with ``J`` the Jacobian of ``r``, ``A = 2 J'J`` and ``g = 2 J'r``. The step is found

- from the matrix of the residuals, ``p = -J'(J J' + mu/2 I)^-1 r``, where there are fewer residuals than coordinates;
- by the Cholesky factors of ``J'J + mu/2 I`` where that matrix is well conditioned;
- by orthogonal triangularisation of ``J``, which does not square its condition, where it is not.

Other losses: ``A = J'L''J`` with ``L''`` the second derivatives of the loss with respect to the outputs, sample by sample, less their
negative part (generalised Gauss-Newton); ``g`` is the exact gradient.

Penalty: ``R`` is a function of deviations ``sigma_ij = sqrt(w_ij' C_i w_ij)`` of edges. Where it grows with one of them, at the rate
``rho_ij``, it lies below the parabola ``rho_ij w_ij' C_i w_ij / (2 sigma_ij)`` that touches it (iteratively reweighted least squares):
``P_ij = rho_ij C_i / sigma_ij``. The gradient is exact.

Anchor: ``F + eps |q - q_0|^2`` keeps coordinates that the samples hardly determine near ``q_0``.

Samples are taken in chunks, so that memory is bounded whatever their number; ``P`` coordinates need ``O(P^2)``.

`improve_` takes one step of a `Problem`, `improve_each` one step of each of several, and `minimise_` steps until the decrease is too small.
`kan.solvers.least_squares` is for residuals that are a function of a vector, and `kan.solvers.batched_levenberg_marquardt` for many
problems of a handful of unknowns each.

References
    K. Levenberg, "A method for the solution of certain non-linear problems in least squares", 1944, doi:10.1090/qam/10666.
    D. W. Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", 1963, doi:10.1137/0111030 (the scaling).
    K. Madsen, H. B. Nielsen, O. Tingleff, "Methods for non-linear least squares problems", 2nd edition, 2004, section 3.2 (the damping).
    N. N. Schraudolph, "Fast curvature matrix-vector products", 2002, doi:10.1162/08997660260028683 (generalised Gauss-Newton).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from kan.devices import read

__all__ = [
    "Chunk",
    "Damping",
    "Linearisation",
    "Model",
    "Problem",
    "damped_cholesky",
    "improve_",
    "improve_each",
    "minimise_",
    "normal_equations",
    "predicted_decrease",
]

Chunk: TypeAlias = tuple[Tensor, Tensor]
"""Some rows of the Jacobian, transposed, ``(P, R)``, and their residuals ``(R,)``."""
MAX_CONDITION = 1e10
"""Condition number of ``J'J + mu/2 I`` above which the step is found by orthogonal triangularisation instead of Cholesky factors: a round
choice."""
MAX_TRIALS = 12
"""Largest number of trials of one step, each with more damping than the one before. If none lowers the objective, the method has ended: a
round choice."""
GRAM_BLOCK = 48
"""Number of rows of ``J'J`` that are computed at a time, up to the diagonal. With 135 to 460 coordinates and 1000 rows this takes 0.68 to
0.8 times as long as the whole product; 32, 64 and 96 take longer (one core, float64)."""
FIRST_DAMPING = 1e-3
"""The first damping ``mu``, divided by the largest diagonal entry of ``A``; one of the values that Madsen, Nielsen and Tingleff suggest."""


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


class Linearisation:
    """The model of an objective around a point, from the Jacobian of its residuals.

    Args:
        chunks: gives the rows of the Jacobian, from the first one whenever it is called.
        size: number of coordinates ``P``.
        rows: number of rows in all.
        gradient: ``g`` ``(P,)``, where it is not ``2 J'r``. The residuals are ignored then.
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
        """The step ``p`` ``(P,)`` with the damping `mu`; NaN where more damping is needed."""
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
            return torch.full_like(self.gradient, math.nan)
        triangle = torch.linalg.qr(torch.cat([self._triangle, math.sqrt(mu / 2) * self._identity]), mode="r").R
        solved: Tensor = torch.linalg.solve_triangular(triangle[:-1, :-1], triangle[:-1, -1:], upper=True)
        return -solved[:, 0]

    @property
    def _identity(self) -> Tensor:
        return torch.eye(self._size, self._size + 1, dtype=self.gradient.dtype, device=self.gradient.device)

    @cached_property
    def _triangle(self) -> Tensor:
        """The triangular factor of ``[J r]``, found chunk by chunk."""
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
    return gram if size <= GRAM_BLOCK else gram.tril_().add(gram.tril(-1).t()), total


class Problem(Protocol):
    """An objective at its present coordinates, which can be moved."""

    def value(self) -> float:
        """The objective ``F``."""

    def linearise(self) -> Model:
        """The model of ``F`` around the present coordinates."""

    def move_(self, step: Tensor) -> None:
        """Add `step` ``(P,)`` to the coordinates."""

    def save(self) -> Any:
        """The present coordinates, in the problem's own form."""

    def restore_(self, saved: Any) -> None:
        """Return to the coordinates that `save` returned."""


@dataclass
class Damping:
    """The damping of a problem, and how it changes from trial to trial.

    Attributes:
        mu: the damping; None until the first step.
        growth: factor by which it grows at the next failure; it doubles with every failure in a row.
        fall: largest factor by which it falls in a step.
    """

    mu: float | None = None
    growth: float = 2.0
    fall: float = 3.0

    def after(self, gain: float) -> None:
        """Update the damping with the gain ratio of a step; one whose ratio is not positive has been undone."""
        assert self.mu is not None
        if gain > 0:
            self.mu *= max(1 / self.fall, 1 - (2 * min(gain, 1.0) - 1) ** 3)
            self.growth = 2.0
        else:
            self.mu *= self.growth
            self.growth *= 2


def improve_(problem: Problem, damping: Damping, value: float | None = None) -> float | None:
    """Take one step of a problem, in place, with as many trials as it needs.

    Args:
        problem: its coordinates are moved.
        damping: is updated.
        value: ``F`` at the present coordinates, if known.

    Returns:
        ``F`` after the step; None if no better point was found, with coordinates and damping as they were.
    """
    here = problem.value() if value is None else value
    model, saved = problem.linearise(), problem.save()

    def evaluate(_: list[int], steps: list[Tensor]) -> list[float]:
        problem.move_(steps[0])
        new = problem.value()
        if not _is_better(new, here):
            problem.restore_(saved)
        return [new]

    try:
        (found,) = improve_each([model], [here], [damping], evaluate)
    except BaseException:  # an interrupt in the middle of a trial
        problem.restore_(saved)
        raise
    return None if found is None else found[1]


def improve_each(
    models: Sequence[Model],
    values: Sequence[float],
    dampings: Sequence[Damping],
    evaluate: Callable[[list[int], list[Tensor]], list[float]],
) -> list[tuple[Tensor, float] | None]:
    """Find one step of each of several problems, whose trials are evaluated together.

    Args:
        models: of the objectives around the present coordinates.
        values: the objectives there.
        dampings: are updated.
        evaluate: gives the objectives of some problems, which are named by their indices, after steps from the present coordinates.

    Returns:
        For each problem the step and the objective after it; None if no better point was found, with the damping as it was.
    """
    found: list[tuple[Tensor, float] | None] = [None] * len(models)
    pending = [
        i
        for i, (model, value) in enumerate(zip(models, values, strict=True))
        if math.isfinite(value) and math.isfinite(model.largest) and bool(torch.isfinite(model.gradient).all())
    ]
    for i in pending:
        if dampings[i].mu is None:
            dampings[i].mu = FIRST_DAMPING * models[i].largest
    before = [replace(damping) for damping in dampings]
    for _ in range(MAX_TRIALS):
        trials: list[tuple[int, Tensor, float]] = []
        for i in list(pending):
            model, damping = models[i], dampings[i]
            least = 1e-3 * torch.finfo(model.gradient.dtype).eps ** 2 * model.largest
            damping.mu = mu = max(damping.mu or 0.0, least)
            step = model.step(mu)
            expected = predicted_decrease(model, step, mu)
            if expected > 0:
                trials.append((i, step, expected))
            elif expected == 0:
                pending.remove(i)
            else:  # negative by round-off, or NaN
                damping.after(-1.0)
        results = evaluate([i for i, _, _ in trials], [step for _, step, _ in trials]) if trials else []
        for (i, step, expected), new in zip(trials, results, strict=True):
            better = _is_better(new, values[i])
            dampings[i].after((values[i] - new) / expected if better else -1.0)
            if better:
                found[i] = step, new
                pending.remove(i)
        if not pending:
            break
    for damping, saved, improved in zip(dampings, before, found, strict=True):
        if improved is None:
            damping.mu, damping.growth = saved.mu, saved.growth
    return found


def minimise_(
    problem: Problem,
    steps: int,
    tolerance: float = 0.0,
    stop: Callable[[], bool] = lambda: False,
    accept: Callable[[], bool] | None = None,
    damping: Damping | None = None,
) -> float:
    """Take steps of a problem, in place, until one of them lowers the objective by next to nothing.

    Args:
        problem: its coordinates are moved.
        steps: largest number of steps.
        tolerance: relative decrease of the objective below which a step is the last one.
        stop: asked before every step whether to end.
        accept: asked after every step whether to keep it, if given; a step that is refused is undone, and the last one.
        damping: to begin with; that of `Damping` if it is not given.

    Returns:
        The objective at the end.
    """
    value, damping = problem.value(), Damping() if damping is None else damping
    for _ in range(steps):
        if stop():
            break
        before = None if accept is None else problem.save()
        new = improve_(problem, damping, value)
        if new is None:
            break
        if accept is not None and before is not None and not accept():
            problem.restore_(before)
            break
        last, value = value, new
        if last - value < tolerance * last:
            break
    return value


def predicted_decrease(model: Model, step: Tensor, mu: float) -> float:
    """The decrease of the objective that a model predicts of its step with the damping `mu`, ``-(g'p + p'(A + P)p / 2)``."""
    return 0.5 * float(mu * step.dot(step) - model.gradient.dot(step))


def _is_better(new: float, value: float) -> bool:
    """Whether an objective has become smaller; one that is not finite has not."""
    return math.isfinite(new) and new < value


def damped_cholesky(matrix: Tensor, damping: float, careful: bool = True) -> Tensor | None:
    """The lower factor of ``matrix + damping I``; None if that is not positive definite or, if `careful`, is ill-conditioned."""
    damped = matrix.clone()
    damped.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(damped)
    pivots = factor.diagonal()
    failures = failed + (~torch.isfinite(pivots)).sum()
    failures, ratio = read(failures, pivots.amax() / pivots.amin()) if careful else (*read(failures), 1.0)
    return None if failures or ratio**2 > MAX_CONDITION else factor
