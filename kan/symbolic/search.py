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

__all__ = ["GIVE_UP", "POLISH_ELEMENTS", "SearchOptions", "longest_step", "search"]

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from kan.solvers.batched_levenberg_marquardt import Quadratic, damped_step, minimise_each

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


class _Functions(NamedTuple):
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
    def of(cls, functions: Sequence[SymbolicFunction], device: torch.device) -> "_Functions":
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

    def take(self, rows: Sequence[int]) -> "_Functions":
        index = list(rows)
        return _Functions(tuple(self.functions[k] for k in index), self.free[index], self.size[index], self.domain[index])


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

    def keep(self, point: Tensor, family: _Functions) -> Tensor:
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
    family = _Functions.of([functions[k] for k in searched], x.device)

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


def _inside(family: _Functions, z: Tensor, y: Tensor, start: Tensor, box: _Limits, grid_number: int) -> Tensor:
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


def _first(start: Tensor, box: _Limits, family: _Functions) -> Tensor:
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
    family: _Functions, z: Tensor, y: Tensor, point: Tensor, iterations: int, tolerance: float, box: _Limits | None = None
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
    everything = tuple(range(len(family.functions)))

    def members(rows: Tensor) -> _Functions:
        return family if len(rows) == len(everything) else family.take(rows.tolist())

    def linearise(rows: Tensor, q: Tensor) -> Quadratic:
        some = members(rows)
        model = _linearise(some, z, y, q)
        return model if box is None else model._replace(loss=torch.where(box.keep(q, some), model.loss, torch.inf))

    return minimise_each(
        linearise,
        point,
        iterations,
        tolerance,
        lambda rows, q, model, damping: _damped_step(members(rows), q, model, damping),
        worthwhile=GIVE_UP,
        # What is left to gain is of no use where a curve is a line seen from far.
        hopeless=lambda q, loss: (q[..., 1].abs() > 1e5 * q[..., 0].abs()) & (loss > 1e-12),
    )


def _linearise(family: _Functions, z: Tensor, y: Tensor, point: Tensor) -> Quadratic:
    """The loss, its gradient and Gauss-Newton matrix at points (F, E, S, 2)."""
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
    return Quadratic(loss, (sides @ residual[..., None]).squeeze(-1), sides @ sides.mT)


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


def _damped_step(family: _Functions, point: Tensor, model: Quadratic, damping: Tensor) -> Tensor:
    """Return the points after the step that solves ``(H + damping diag H) step = gradient``; where there is no curvature they stay.

    Where u must stay in an interval, the parameters are the values of u at both ends of the data. A value at the end of the interval that
    would leave it is held fixed; a value that would step across the end stops there.
    """
    trial = point + damped_step(model.gradient, model.hessian, damping, longest_step(point))
    bounded = family.domain.isfinite().any(-1)
    if not bool(bounded.any()):
        return trial
    rows = bounded.nonzero()[:, 0]
    some, low, high = point[rows], family.domain[rows, :1, None], family.domain[rows, 1:, None]
    (aa, ab), (_, bb) = (row.unbind(-1) for row in model.hessian[rows].unbind(-2))
    ga, gb = model.gradient[rows].unbind(-1)
    # ends u(-1) = beta - alpha and u(1) = beta + alpha
    ends = torch.stack([some[..., 1] - some[..., 0], some[..., 1] + some[..., 0]], -1)
    g0, g1 = (gb - ga) / 2, (gb + ga) / 2
    held0 = ((ends[..., 0] <= low) & (g0 < 0)) | ((ends[..., 0] >= high) & (g0 > 0))
    held1 = ((ends[..., 1] <= low) & (g1 < 0)) | ((ends[..., 1] >= high) & (g1 > 0))
    slope = torch.stack([torch.where(held0, 0.0, g0), torch.where(held1, 0.0, g1)], -1)
    cross = torch.where(held0 | held1, 0.0, (bb - aa) / 4)
    bend = torch.stack([torch.where(held0, 0.0, (bb + aa - 2 * ab) / 4), cross, cross, torch.where(held1, 0.0, (bb + aa + 2 * ab) / 4)], -1)
    step = damped_step(slope, bend.unflatten(-1, (2, 2)), damping[rows], longest_step(ends))
    ends = (ends + step).clamp(low[..., None], high[..., None])
    inner = torch.stack([ends[..., 1] - ends[..., 0], ends[..., 1] + ends[..., 0]], -1) / 2
    # With one free parameter, both ends are shifted together.
    shifted = torch.stack([trial[rows][..., 0], torch.maximum(trial[rows][..., 1], low + some[..., 0].abs())], -1)
    trial[rows] = torch.where(family.free[rows].all(-1)[:, None, None, None], inner, shifted)
    return trial


def longest_step(point: Tensor) -> Tensor:
    """The largest step of each unknown: a longer one, far from the optimum, may lead to where f is flat, and no slope leads back."""
    return 1 + point.abs().cumsum(-1)


def _polish_winner(family: _Functions, z: Tensor, y: Tensor, point: Tensor, iterations: int, box: _Limits | None) -> Tensor:
    """Return the best point on all samples, shape (F, E, 2), from a few candidates of shape (F, E, S, 2)."""
    loss = _linearise(family, z, y, point).loss
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
        hessian = _linearise(members, z, y, point[unknown]).hessian
        beyond = point[unknown][..., 1:] + point[unknown][..., :1] * z.new_tensor([-1 - 1e-3, 1 + 1e-3])
        inside = torch.stack([value_of(f, u).isfinite().all(-1) for f, u in zip(members.functions, beyond, strict=True)])
        stuck = (loss[unknown] < torch.inf) & (loss[unknown] > 1e-20) & (~inside | ~hessian.flatten(-2).any(-1))
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


def _pattern_search(family: _Functions, z: Tensor, y: Tensor, point: Tensor) -> Tensor:
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
