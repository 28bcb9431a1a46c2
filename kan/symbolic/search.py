r"""The search for (a, b) in :math:`y \approx c\,f(a x + b) + d`, with c and d projected out; see `kan.symbolic.affine_fit`.

1. Many candidates :math:`(a, b)` are scored on a common grid, in float32; see `kan.symbolic.starts`.
2. The best local maxima are refined together by Levenberg-Marquardt steps on the projected residual, on a subsample. The Jacobian is
   Kaufman's approximation.
3. The best of them on all samples is refined there.

The search works with ``z = (x - centre) / half`` in [-1, 1] and ``u = alpha z + beta``, so that the units of ``x`` do not matter.
Symbols: N samples, E curves, F functions, S starting points, n samples used in one step of the search.

References
    L. Kaufman, "A variable projection method for solving separable nonlinear least squares problems", 1975, doi:10.1007/BF01932995.
"""

__all__ = ["GIVE_UP", "POLISH_ELEMENTS", "SearchOptions", "damped_newton", "search"]

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from .library import SymbolicFunction
from .slopes import SLOPES, value_and_slope, value_of
from .starts import DOMAINS, LEAST_SPREAD, gridded, standardised, starts_of

SCAN_ELEMENTS = 2**18
"""Number of elements of the largest temporary while a grid of starting points is scored; chosen to fit into the processor's cache."""

POLISH_ELEMENTS = 2**21
"""Number of elements of the largest temporary while points are refined; larger, because many small calls cost more than lost cache."""

GIVE_UP = 0.02
"""Value of 1 - R^2 above which a fit is no longer refined after a few steps."""


class SearchOptions(NamedTuple):
    """Options of the search for (a, b).

    Args:
        limits: Limits of a and of b; None for no limits.
        grid_number: Points per range of the grid of starting points within the limits.
        starts: Number of starting points that are refined.
        iterations: Largest number of Levenberg-Marquardt steps on all samples; each starting point gets half as many on a subsample.
        samples: Samples per curve in the refinement of the starting points.
    """

    limits: tuple[tuple[float, float], tuple[float, float]] | None
    grid_number: int
    starts: int
    iterations: int
    samples: int


class _Family(NamedTuple):
    """F functions with the properties that the search needs.

    Args:
        functions: The functions.
        free: Whether alpha and beta are searched, bool, (F, 2).
        size: Standard deviations of f over [-2, 2], (F,); NaN where a symmetry leaves the size of f(u) undetermined.
        domain: Ends of the intervals that u must stay in, (F, 2); infinite where u is not restricted.
    """

    functions: tuple[SymbolicFunction, ...]
    free: Tensor
    size: Tensor
    domain: Tensor

    @classmethod
    def of(cls, functions: Sequence[SymbolicFunction], device: torch.device) -> "_Family":
        symmetries = [f.symmetries for f in functions]
        free = [[s.scaling is None, s.translation is None] for s in symmetries]
        u = torch.linspace(-2, 2, 257, dtype=torch.float64, device=device)
        size = torch.full((len(functions),), torch.nan, dtype=torch.float64, device=device)
        for k, (f, s) in enumerate(zip(functions, symmetries, strict=True)):
            if s.translation is None and (s.scaling is None or s.scaling[0] == 0):
                value = value_of(f, u)
                size[k] = value[value.isfinite()].std(correction=0).nan_to_num(0.0)
        ends = [_domain(f) for f in functions]
        return cls(tuple(functions), torch.tensor(free, device=device), size, torch.tensor(ends, dtype=torch.float64, device=device))

    def take(self, rows: Sequence[int]) -> "_Family":
        index = list(rows)
        return _Family(tuple(self.functions[k] for k in index), self.free[index], self.size[index], self.domain[index])


def _domain(function: SymbolicFunction) -> tuple[float, float]:
    """Return the interval that u must stay in: the one in `DOMAINS`, or u >= 0 for roots and logarithms."""
    one_sided = function.symmetries.scaling is not None and function.symmetries.reflection is None
    return (0.0, math.inf) if one_sided else DOMAINS.get(function.torch_fun, (-math.inf, math.inf))


def _smooth(function: SymbolicFunction) -> bool:
    """Whether a function is known to be smooth enough for derivatives wherever it is defined."""
    return function.torch_fun in SLOPES or function.symmetries.scaling is not None


class _Limits(NamedTuple):
    """Limits of a and b in the units of x, with the half-widths and centres (E, 1) that lead from z to x."""

    a: tuple[float, float]
    b: tuple[float, float]
    half: Tensor
    centre: Tensor

    def keep(self, point: Tensor, family: _Family) -> Tensor:
        """Whether points (F, E, S, 2) are within the limits; parameters that a symmetry makes redundant are not checked."""
        a = point[..., 0] / self.half
        b = point[..., 1] - a * self.centre
        kept = torch.ones_like(a, dtype=torch.bool)
        for k, f in enumerate(family.functions):
            s = f.symmetries
            if s.scaling is None:
                fixed_b = s.translation is None and s.period is None
                kept[k] = self._within(a[k], b[k], fixed_b)
                if s.reflection is not None:
                    kept[k] |= self._within(-a[k], -b[k], fixed_b)
            elif s.reflection is None:
                kept[k] = (self.a[1] > 0) & (a[k] > 0) | (self.a[0] < 0) & (a[k] < 0)
        return kept

    def _within(self, a: Tensor, b: Tensor, fixed_b: bool) -> Tensor:
        kept = (a >= self.a[0]) & (a <= self.a[1])
        return kept & (b >= self.b[0]) & (b <= self.b[1]) if fixed_b else kept


def search(x: Tensor, y: Tensor, functions: Sequence[SymbolicFunction], options: SearchOptions) -> tuple[Tensor, Tensor]:
    """Return a and b, shape (F, E) each, for curves x and y of shape (E, N)."""
    limits, grid_number, starts, iterations, samples = options
    shape = (len(functions), x.shape[0])
    a, b = x.new_ones(shape), x.new_zeros(shape)
    searched = [k for k, f in enumerate(functions) if f.symmetries.scaling is None or f.symmetries.translation is None]
    if not searched:
        return a, b
    family = _Family.of([functions[k] for k in searched], x.device)

    # 1. Standard coordinates, sorted, and a subsample at evenly spaced ranks, which contains both extremes.
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    centre, half = (high + low) / 2, (high - low) / 2
    half = torch.where(half > 0, half, 1.0)
    z, order = ((x - centre) / half).clamp(-1.0, 1.0).sort(-1)
    target = standardised(y.gather(-1, order))
    z_few, y_few = z, target
    if x.shape[1] > samples:
        ranks = torch.linspace(0, x.shape[1] - 1, samples, device=x.device).round().long()
        z_few, y_few = z[:, ranks], standardised(target[:, ranks])
    box = None if limits is None else _Limits(*limits, half, centre)

    # 2. Starting points, one function after the other: (F, E, S, 2).
    on_grid = gridded(z, target)
    found = []
    for i, function in enumerate(family.functions):
        start = starts_of(function, z, target, on_grid, starts)
        if box is not None:
            start = _inside(family.take([i]), z_few, y_few, start, box, grid_number)
        found.append(start)
    point = torch.stack(found)

    # 3. Refinement of the starting points on the subsample. The best three are compared on all samples, and the winner is refined there.
    point, loss = _polish(family, z_few, y_few, point, max(1, iterations // 2), 1e-3, box)
    best = loss.topk(min(3, starts), dim=-1, largest=False).indices
    point = point.gather(2, best[..., None].expand(*best.shape, 2))
    width = max(1, POLISH_ELEMENTS // (point.shape[2] * x.shape[1]))
    per_call = max(1, width // x.shape[0])
    for i, j in product(range(0, len(searched), per_call), range(0, x.shape[0], width)):
        some, curves = slice(i, i + per_call), slice(j, j + width)
        members = family.take(range(*some.indices(len(searched))))
        bounds = None if box is None else box._replace(half=half[curves], centre=centre[curves])
        winner = _polish_winner(members, z[curves], target[curves], point[some, curves], iterations, bounds)
        k_some = torch.tensor(searched[some], device=x.device)[:, None]
        e_some = torch.arange(x.shape[0], device=x.device)[curves]
        slope = winner[..., 0] / half[curves, 0]
        a[k_some, e_some] = slope
        b[k_some, e_some] = winner[..., 1] - slope * centre[curves, 0]
    return a, b


def _inside(family: _Family, z: Tensor, y: Tensor, start: Tensor, box: _Limits, grid_number: int) -> Tensor:
    """Return starting points (E, S, 2) of one function within the limits.

    They are taken in turn from ``start``, where it is within the limits, and from the best points of a grid over the limits. A function
    of one parameter keeps those of ``start`` that are within the limits.
    """
    count = start.shape[1]
    ends_a, ends_b = ((max(low, -10.0), min(high, 10.0)) if math.isinf(low) else (low, high) for low, high in (box.a, box.b))
    a = torch.linspace(*ends_a, grid_number, dtype=z.dtype, device=z.device)
    b = torch.linspace(*ends_b, grid_number, dtype=z.dtype, device=z.device)
    if not bool(family.free.all()):
        return torch.where(box.keep(start[None], family)[0][..., None], start, _first(start, box, family))
    alpha = a * box.half  # (E, A)
    slope = alpha[:, :, None].expand(-1, -1, grid_number).flatten(1)
    offset = ((a * box.centre)[..., None] + b).flatten(1)
    scores = []
    for some in range(0, slope.shape[1], max(1, SCAN_ELEMENTS // z.numel())):
        part = slice(some, some + max(1, SCAN_ELEMENTS // z.numel()))
        value = value_of(family.functions[0], offset[:, part, None] + slope[:, part, None] * z[:, None])
        residual, *_ = _project(value, y[:, None], family.size)
        scores.append(1 - residual.square().sum(-1).nan_to_num(1.0, 1.0))
    score = torch.cat(scores, 1).unflatten(1, (grid_number, grid_number))
    peak = score == torch.nn.functional.max_pool2d(score, kernel_size=3, stride=1, padding=1)
    ranked = torch.where(peak & (score > 0), score, score - 1).flatten(1)
    index = ranked.topk(min(count, ranked.shape[1]), -1).indices[:, torch.arange(count) % min(count, ranked.shape[1])]
    lattice = torch.stack([slope.gather(1, index), offset.gather(1, index)], -1)
    allowed = box.keep(start[None], family)[0][..., None]
    return torch.where(allowed & (torch.arange(count, device=z.device) % 2 == 0)[:, None], start, lattice)


def _first(start: Tensor, box: _Limits, family: _Family) -> Tensor:
    """Return starting points within the limits for a function of one parameter: an admissible sign, or two rates from the range of a."""
    if bool(family.free[0, 1]):
        return torch.stack(
            [start[..., 0].new_tensor(1.0 if box.a[1] > 0 else -1.0).expand(start.shape[:2]), start.new_full(start.shape[:2], 2.0)], -1
        )
    low, high = max(box.a[0], -10.0), min(box.a[1], 10.0)
    ends = torch.tensor([low + share * (high - low) for share in (0.05, 0.5)], dtype=start.dtype, device=start.device) * box.half
    alpha = ends[:, torch.arange(start.shape[1], device=start.device) % 2]
    return torch.stack([alpha, -alpha.abs()], -1)


def _polish(
    family: _Family, z: Tensor, y: Tensor, point: Tensor, iterations: int, tolerance: float, box: _Limits | None = None
) -> tuple[Tensor, Tensor]:
    """Refine ``(alpha, beta)`` by Levenberg-Marquardt steps, for all starting points of all curves and functions together.

    Args:
        family: F functions.
        z: Standard abscissae, shape (E, n).
        y: Centred ordinates of norm 1, shape (E, n).
        point: Starting points ``(alpha, beta)``, shape (F, E, S, 2).
        iterations: Largest number of steps.
        tolerance: Relative decrease of the loss below which a point is no longer refined.
        box: Limits, if there are any.

    Returns:
        Refined points, and their losses ``1 - R^2`` (infinite where not admissible), shape (F, E, S).
    """
    loss, gradient, hessian = _linearise(family, z, y, point)
    damping = torch.full_like(loss, 1e-3)
    done = torch.zeros_like(loss, dtype=torch.bool)
    for step in range(iterations):
        live = (~done).flatten(1).any(1).nonzero()[:, 0]
        if len(live) == 0:
            break
        members = family.take(live.tolist())
        trial = _damped_step(members, point[live], gradient[live], hessian[live], damping[live])
        moved = trial - point[live]
        bend = hessian[live] * torch.stack([moved[..., 0] ** 2, 2 * moved[..., 0] * moved[..., 1], moved[..., 1] ** 2], -1)
        expected = 2 * (gradient[live] * moved).sum(-1) - bend.sum(-1)
        loss_try, gradient_try, hessian_try = _linearise(members, z, y, trial)
        if box is not None:
            loss_try = torch.where(box.keep(trial, members), loss_try, torch.inf)
        before = loss[live]
        better = (loss_try < before) & ~done[live]  # a curve must not depend on how long others take
        point[live] = torch.where(better[..., None], trial, point[live])
        loss[live] = torch.where(better, loss_try, before)
        gradient[live] = torch.where(better[..., None], gradient_try, gradient[live])
        hessian[live] = torch.where(better[..., None], hessian_try, hessian[live])
        damping[live] = torch.where(better, damping[live] * 0.1, damping[live] * 8.0)
        # a fit that is bad need not be known to many digits; 1e-30 is the square of round-off: nothing is left to gain
        least = torch.clamp(1e5 * tolerance * before.square(), tolerance, 1e-3) * before
        settled = better & ((before - loss_try <= least) | (loss_try < 1e-30))
        # what is left to gain is of no use where a curve is a line seen from far, or where a fit is bad after many steps
        hopeless = (trial[..., 1].abs() > 1e5 * trial[..., 0].abs()) & (loss[live] > 1e-12)
        hopeless |= loss[live] > (GIVE_UP if step >= 4 else 0.1 * GIVE_UP if step >= 12 else torch.inf)
        done[live] |= settled | hopeless | (expected <= least) | (damping[live] > 1e8)
    return point, loss


def _linearise(family: _Family, z: Tensor, y: Tensor, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss (F, E, S), and its Gauss-Newton gradient (F, E, S, 2) and Hessian (F, E, S, 3: aa, ab, bb)."""
    u = point[..., :1] * z[:, None] + point[..., 1:]
    value, slope = torch.empty_like(u), torch.empty_like(u)
    for k, function in enumerate(family.functions):
        value[k], slope[k] = value_and_slope(function, u[k])
    residual, c, centred, norm2 = _project(value, y[:, None], family.size[:, None, None, None])
    loss = residual.square().sum(-1)
    loss = torch.where(loss.isfinite(), loss, torch.inf)

    # An infinite slope occurs at the end of a domain, where no step in that direction is possible.
    slope = slope.nan_to_num_(0.0, 0.0, 0.0).mul_(c)
    sides = torch.stack([slope * z[:, None], slope], dim=-2)
    # Kaufman's Jacobian: the change of F that c and d cannot absorb.
    sides = sides - sides.mean(-1, keepdim=True)
    sides = sides - (sides @ centred[..., None]) / norm2[..., None] * centred[..., None, :]
    sides = sides * family.free[:, None, None, :, None]
    gradient = (sides @ residual[..., None]).squeeze(-1)
    hessian = sides @ sides.mT
    return loss, gradient, torch.stack([hessian[..., 0, 0], hessian[..., 0, 1], hessian[..., 1, 1]], dim=-1)


def _project(value: Tensor, y: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the residual, c, the centred F and its squared norm (..., 1); NaN for an F that is not finite or varies too little.

    The standard deviation of F is compared with ``size``, or with the mean of F where ``size`` is NaN.
    """
    mean = value.mean(-1, keepdim=True)
    centred = value - mean
    norm2 = centred.square().sum(-1, keepdim=True)
    least = LEAST_SPREAD**2 * value.shape[-1] * torch.where(size.isnan(), mean, size).square()
    norm2 = torch.where(norm2 > least, norm2, torch.nan)
    c = (centred * y).sum(-1, keepdim=True) / norm2
    return y - c * centred, c, centred, norm2


def _damped_step(family: _Family, point: Tensor, gradient: Tensor, hessian: Tensor, damping: Tensor) -> Tensor:
    """Return the points after the step that solves ``(H + damping diag H) step = gradient``; where there is no curvature they stay.

    Where u must stay in an interval, the parameters are the values of u at both ends of the data. A value at the end of the interval that
    would leave it is held fixed; a value that would step across the end stops there.
    """
    trial = point + damped_newton(gradient, hessian, damping, point)
    bounded = family.domain.isfinite().any(-1)
    if not bool(bounded.any()):
        return trial
    rows = bounded.nonzero()[:, 0]
    some, low, high = point[rows], family.domain[rows, :1, None], family.domain[rows, 1:, None]
    (aa, ab, bb), (ga, gb) = hessian[rows].unbind(-1), gradient[rows].unbind(-1)
    # ends u(-1) = beta - alpha and u(1) = beta + alpha
    ends = torch.stack([some[..., 1] - some[..., 0], some[..., 1] + some[..., 0]], -1)
    g0, g1 = (gb - ga) / 2, (gb + ga) / 2
    held0 = ((ends[..., 0] <= low) & (g0 < 0)) | ((ends[..., 0] >= high) & (g0 > 0))
    held1 = ((ends[..., 1] <= low) & (g1 < 0)) | ((ends[..., 1] >= high) & (g1 > 0))
    slope = torch.stack([torch.where(held0, 0.0, g0), torch.where(held1, 0.0, g1)], -1)
    cross = torch.where(held0 | held1, 0.0, (bb - aa) / 4)
    bend = torch.stack([torch.where(held0, 0.0, (bb + aa - 2 * ab) / 4), cross, torch.where(held1, 0.0, (bb + aa + 2 * ab) / 4)], -1)
    ends = (ends + damped_newton(slope, bend, damping[rows], ends)).clamp(low[..., None], high[..., None])
    inner = torch.stack([ends[..., 1] - ends[..., 0], ends[..., 1] + ends[..., 0]], -1) / 2
    # With one free parameter, both ends are shifted together.
    shifted = torch.stack([trial[rows][..., 0], torch.maximum(trial[rows][..., 1], low + some[..., 0].abs())], -1)
    trial[rows] = torch.where(family.free[rows].all(-1)[:, None, None, None], inner, shifted)
    return trial


def damped_newton(gradient: Tensor, hessian: Tensor, damping: Tensor, point: Tensor) -> Tensor:
    """Solve ``(H + damping diag H) step = gradient`` in closed form; a direction without curvature stays put."""
    (aa, ab, bb), (ga, gb) = hessian.unbind(-1), gradient.unbind(-1)
    aa, bb = aa * (1 + damping), bb * (1 + damping)
    aa, bb = torch.where(aa > 0, aa, 1.0), torch.where(bb > 0, bb, 1.0)
    step = torch.stack([bb * ga - ab * gb, aa * gb - ab * ga], dim=-1) / (aa * bb - ab * ab)[..., None]
    # far from the optimum a Gauss-Newton step may jump to where f is flat, and no slope leads back
    longest = 1 + point.abs().cumsum(-1)
    step = step * (longest / step.abs()).amin(-1, keepdim=True).clamp(max=1.0)
    return step.nan_to_num(0.0, 0.0, 0.0)


def _polish_winner(family: _Family, z: Tensor, y: Tensor, point: Tensor, iterations: int, box: _Limits | None) -> Tensor:
    """Return the best point on all samples, shape (F, E, 2), from a few candidates of shape (F, E, S, 2)."""
    loss, _, _ = _linearise(family, z, y, point)
    if box is not None:
        loss = torch.where(box.keep(point, family), loss, torch.inf)
    point, loss = _polish(family, z, y, _smallest(point, loss), iterations, 1e-9, box)
    if box is not None:
        return point[:, :, 0]
    # Derivatives do not help for a step function, nor where the data reach the end of a domain that is not in `DOMAINS`.
    known = [f.torch_fun is torch.sign or bool(ends.isfinite().any()) for f, ends in zip(family.functions, family.domain, strict=True)]
    unknown = [k for k, given in enumerate(known) if not given and not _smooth(family.functions[k])]
    if unknown:
        members = family.take(unknown)
        _, _, hessian = _linearise(members, z, y, point[unknown])
        beyond = point[unknown][..., 1:] + point[unknown][..., :1] * z.new_tensor([-1 - 1e-3, 1 + 1e-3])
        inside = torch.stack([value_of(f, u).isfinite().all(-1) for f, u in zip(members.functions, beyond, strict=True)])
        stuck = (loss[unknown] < torch.inf) & (loss[unknown] > 1e-20) & (~inside | ~hessian.any(-1))
        for k, lost in zip(unknown, stuck, strict=True):
            if bool(lost.any()):
                point[k] = _pattern_search(family.take([k]), z, y, point[k])
    return point[:, :, 0]


def _smallest(point: Tensor, loss: Tensor) -> Tensor:
    """Return the point of least loss, shape (..., 1, 2); of equal ones (aliases, mirror images) the one with the least slope."""
    least = loss.amin(-1, keepdim=True)
    slope = point[..., 0]
    equal = loss <= least * (1 + 1e-6) + 1e-12
    index = torch.where(equal, slope.abs() - 1e-6 * slope, torch.inf).argmin(-1, keepdim=True)
    return point.gather(-2, index[..., None].expand(*index.shape, 2))


def _pattern_search(family: _Family, z: Tensor, y: Tensor, point: Tensor) -> Tensor:
    """Improve ``point``, shape (E, 1, 2), without derivatives, by the best of its neighbours at ever smaller distances.

    The values of u at z = -1 and z = 1 are varied, so that a value at the end of a domain can stay there exactly.
    """
    (function,), free, size, _ = family
    # One free parameter allows many neighbours: the best location of a step is only as wide as the gap between two samples.
    count = 5 if bool(free.all()) else 33
    ticks = torch.linspace(-1, 1, count, dtype=z.dtype, device=z.device)
    still = torch.zeros_like(ticks[:1])
    steps = torch.cartesian_prod(*(ticks if is_free else still for is_free in free[0].tolist()))
    # The zero move comes first, so that the point stays if no neighbour is better.
    steps = torch.cat([torch.zeros_like(steps[:1]), steps])
    moves = torch.stack([steps[:, 1] - steps[:, 0], steps[:, 1] + steps[:, 0]], dim=-1)
    alpha, beta = point[..., :1], point[..., 1:]
    ends, reach = torch.cat([beta - alpha, beta + alpha], dim=-1), alpha.abs() / 8
    width = max(1, POLISH_ELEMENTS // z.numel())
    for _ in range(80):
        trial = ends + moves * reach
        loss = []
        for some in torch.split(trial, width, dim=1):
            u = torch.lerp(some[..., :1], some[..., 1:], (z[:, None] + 1) / 2)
            residual, *_ = _project(value_of(function, u), y[:, None], size)
            loss.append(residual.square().sum(-1).nan_to_num(torch.inf))
        best = torch.cat(loss, dim=1).argmin(-1)[:, None, None]
        ends = trial.gather(1, best.expand(-1, -1, 2))
        reach = torch.where(best == 0, reach / 4, reach)
        if bool((reach < 1e-11).all()):
            break
    return torch.stack([ends[..., 1] - ends[..., 0], ends[..., 1] + ends[..., 0]], dim=-1) / 2
