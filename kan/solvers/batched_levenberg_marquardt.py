r"""Levenberg-Marquardt for many small problems of least squares at once, which take their trials together.

Each problem has a few unknowns :math:`q` and a loss :math:`F(q) = |r(q)|^2`. With the Jacobian :math:`J` of the residuals, the gradient
:math:`g = -J^\top r` and the Gauss-Newton matrix :math:`H = J^\top J`, the loss is modelled by

.. math:: F(q + p) \approx F - 2 g^\top p + p^\top H p, \qquad (H + \mu\,\mathrm{diag}\,H)\,p = g.

The damping :math:`\mu` is relative to the diagonal, so that the units of the unknowns do not matter. Each problem has its own: it falls
to a tenth after a step that lowers the loss, and rises to eight times its value after one that does not, which is undone. A single problem,
of any size, is for `kan.solvers.levenberg_marquardt`.

Symbols: ``*B`` is the shape of the batch of problems, ``P`` the number of unknowns.

References
    D. W. Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", 1963, doi:10.1137/0111030.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

__all__ = ["Quadratic", "damped_step", "minimise_each"]

FIRST_DAMPING = 1e-3
"""The first damping ``mu`` of each problem, which is relative to the diagonal of ``H``: a round choice."""
LEAST_DAMPING = 1e-15
"""Smallest damping. It does not fall any further, so that it need not rise for long when a step fails: a round choice."""
LARGEST_DAMPING = 1e4
"""Damping at which a problem is given up, since even the short steps that it allows have not lowered the loss: a round choice."""
FALL, RISE = 0.1, 8.0
"""Factors of the damping after a step that lowers the loss, and after one that does not: round choices."""
ROUND_OFF = 1e-30
"""Loss ``|r|^2`` below which a problem ends, because its residuals are round-off, for residuals whose norm is at most one."""
GRACE = 4
"""Number of steps after which a problem ends if its loss is still above the one that is worth polishing: a round choice."""


class Quadratic(NamedTuple):
    """The models of the losses around points.

    Attributes:
        loss: ``F`` ``(*B,)``, infinite where a point is not admissible.
        gradient: ``g`` ``(*B, P)``.
        hessian: ``H`` ``(*B, P, P)``.
    """

    loss: Tensor
    gradient: Tensor
    hessian: Tensor


Step: TypeAlias = Callable[[Tensor, Tensor, Quadratic, Tensor], Tensor]
"""Rows of the batch, their points, models and dampings, to the points that are tried next."""


def minimise_each(
    linearise: Callable[[Tensor, Tensor], Quadratic],
    q: Tensor,
    steps: int,
    tolerance: float,
    step: Step | None = None,
    worthwhile: float = math.inf,
    hopeless: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise the loss of every problem of a batch, each from a start of its own.

    A problem ends when a step lowers its loss by less than `tolerance` times the loss, or is expected to. The larger the loss, the coarser
    the tolerance, up to a thousandth: a fit that is bad need not be known to many digits.

    Args:
        linearise: gives the models of the rows ``(R,)`` of the batch, indices along its first dimension, at points ``(R, ..., P)``.
        q: starts ``(*B, P)``.
        steps: largest number of steps.
        tolerance: relative to the loss.
        step: finds the next points; those of `damped_step` if it is not given.
        worthwhile: loss above which a problem ends after a few steps.
        hopeless: says of the points that were tried, ``(R, ..., P)``, and the losses after the step which problems end there.

    Returns:
        The points ``(*B, P)`` and their losses ``(*B,)``.

    >>> target = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> def linearise(rows, q):
    ...     residual = q.square() - target[rows]
    ...     jacobian = torch.diag_embed(2 * q)
    ...     return Quadratic(residual.square().sum(-1), -(jacobian.mT @ residual[..., None])[..., 0], jacobian.mT @ jacobian)
    >>> q, loss = minimise_each(linearise, torch.ones(2, 2), 20, 1e-6)
    >>> torch.allclose(q, target.sqrt())
    True
    """
    take = _newton if step is None else step
    rows = torch.arange(len(q), device=q.device)
    start = linearise(rows, q)
    first = torch.full_like(start.loss, FIRST_DAMPING)
    # Points, losses, gradients, matrices, dampings, and whether a problem has ended.
    state: tuple[Tensor, ...] = q.clone(), *start, first, torch.zeros_like(first, dtype=torch.bool)
    for count in range(steps):
        ended = state[-1].reshape(len(rows), -1).all(1)
        whole = not bool(ended.any())
        live = rows if whole else rows[~ended]
        if len(live) == 0:
            break
        here, loss, gradient, hessian, damping, done = state if whole else [part[live] for part in state]
        trial = take(live, here, Quadratic(loss, gradient, hessian), damping)
        move = trial - here
        expected = (move * (2 * gradient - (hessian @ move[..., None])[..., 0])).sum(-1)
        new = linearise(live, trial)
        better = (new.loss < loss) & ~done  # a problem must not depend on how long the others take
        least = torch.clamp(1e5 * tolerance * loss.square(), tolerance, 1e-3) * loss
        settled = better & ((loss - new.loss <= least) | (new.loss < ROUND_OFF))
        damping = torch.where(better, damping * FALL, damping * RISE).clamp_min(LEAST_DAMPING)
        loss = torch.where(better, new.loss, loss)
        done = done | settled | (expected <= least) | (damping > LARGEST_DAMPING)
        if count >= GRACE:
            done |= loss > worthwhile
        if hopeless is not None:
            done |= hopeless(trial, loss)
        better = better[..., None]
        gradient, hessian = torch.where(better, new.gradient, gradient), torch.where(better[..., None], new.hessian, hessian)
        after = torch.where(better, trial, here), loss, gradient, hessian, damping, done
        state = after if whole else tuple(part.index_copy_(0, live, found) for part, found in zip(state, after, strict=True))
    return state[0], state[1]


def damped_step(gradient: Tensor, hessian: Tensor, damping: Tensor, longest: Tensor | None = None) -> Tensor:
    """The solutions ``p`` ``(*B, P)`` of ``(H + mu diag H) p = g``; zero in a direction without curvature.

    Args:
        gradient: ``g`` ``(*B, P)``.
        hessian: ``H`` ``(*B, P, P)``.
        damping: ``mu`` ``(*B,)``.
        longest: largest size of each component, ``(*B, P)``. A longer step is shortened.
    """
    if gradient.shape[-1] == 2:  # in closed form, which is several times faster
        (aa, ab), (_, bb) = (row.unbind(-1) for row in hessian.unbind(-2))
        ga, gb = gradient.unbind(-1)
        aa, bb = aa * (1 + damping), bb * (1 + damping)
        aa, bb = torch.where(aa > 0, aa, 1.0), torch.where(bb > 0, bb, 1.0)
        step = torch.stack([bb * ga - ab * gb, aa * gb - ab * ga], dim=-1) / (aa * bb - ab * ab)[..., None]
    else:
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        ridge = damping[..., None] * diagonal + 1e-14 * diagonal.amax(-1, keepdim=True) + 1e-300
        step = torch.linalg.solve_ex(hessian + torch.diag_embed(ridge), gradient)[0]
    if longest is not None:
        step = step * (longest / step.abs()).amin(-1, keepdim=True).clamp(max=1.0)
    return step.nan_to_num(0.0, 0.0, 0.0)


def _newton(rows: Tensor, q: Tensor, model: Quadratic, damping: Tensor) -> Tensor:
    return q + damped_step(model.gradient, model.hessian, damping)
