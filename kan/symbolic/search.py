r"""The search for (a, b) in :math:`y \approx c\,f(a x + b) + d`, with c and d projected out; see `kan.symbolic.affine_fit`.

1. Lattices of :math:`(a, b)` are scored on a subsample spaced by rank, in float32.
2. The best local maxima are polished together by Levenberg-Marquardt on the projected residual (Kaufman's Jacobian).
3. The winner is polished on all samples in float64.

The search works on ``z = (x - centre) / half`` in [-1, 1] and ``u = alpha z + beta``, so units of ``x`` do not matter.
Symbols: N samples, E curves, F functions, S starts, n samples of one stage.
"""

__all__ = ["POLISH_ELEMENTS", "search", "value_of"]

import math
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from .library import SymbolicFunction, Symmetries

# Elements of the largest temporary: the lattice scan wants cache, the polish wants few calls
_SCAN_ELEMENTS = 2**18
POLISH_ELEMENTS = 2**21

# Least std(F) in units of F's size: a wrong f that bends into a line or a tail would let c and d grow without bound
_LEAST_SPREAD = 1e-4


class _Lattice(NamedTuple):
    """Candidates (alpha, beta) of E curves: A slopes with B offsets each."""

    alpha: Tensor  # (E, A)
    beta: Tensor  # (E, A, B)
    border: Tensor  # (A, B), bool


class _Family(NamedTuple):
    """F functions with what the search must know of each."""

    functions: tuple[SymbolicFunction, ...]
    free: Tensor  # (F, 2), bool: whether alpha and beta are searched
    size: Tensor  # (F,): standard deviation of f over [-2, 2]; NaN where a symmetry lets f(u) have any size

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
        return cls(tuple(functions), torch.tensor(free, device=device), size)

    def take(self, rows: Sequence[int]) -> "_Family":
        index = list(rows)
        return _Family(tuple(self.functions[k] for k in index), self.free[index], self.size[index])


def search(
    x: Tensor,
    y: Tensor,
    functions: Sequence[SymbolicFunction],
    ranges: tuple[tuple[float, float], tuple[float, float]],
    grid_number: int,
    starts: int,
    iterations: int,
    samples: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a, b and the boundary flags, shape (F, E) each, for curves x, y of shape (E, N)."""
    shape = (len(functions), x.shape[0])
    a, b = x.new_ones(shape), x.new_zeros(shape)
    at_boundary = torch.zeros(shape, dtype=torch.bool, device=x.device)
    searched = [k for k, f in enumerate(functions) if f.symmetries.scaling is None or f.symmetries.translation is None]
    if not searched:
        return a, b, at_boundary
    family = _Family.of([functions[k] for k in searched], x.device)

    # 1. standard coordinates, and a subsample of about evenly spaced ranks that keeps both extremes
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    centre, half = (high + low) / 2, (high - low) / 2
    half = torch.where(half > 0, half, 1.0)
    z = ((x - centre) / half).clamp(-1.0, 1.0)
    target = _standardised(y)
    if x.shape[1] > samples:
        ranks = torch.linspace(0, x.shape[1] - 1, samples, device=x.device).round().long()
        chosen = z.argsort(-1)[:, ranks]
        z_few, y_few = z.gather(-1, chosen), _standardised(y.gather(-1, chosen))
    else:
        z_few, y_few = z, target

    # 2. lattices, one function after the other: (F, E, S, 2)
    found = []
    for i, k in enumerate(searched):
        lattices = _lattices(functions[k].symmetries, centre, half, ranges, grid_number)
        start, at_boundary[k] = _scan(family.take([i]), z_few.float(), y_few.float(), lattices, starts)
        found.append(start)
    point = torch.stack(found).to(torch.float64)

    # 3. polish the starts on the subsample, the best three compete on all samples, the winner is polished there
    point, loss = _polish(family, z_few, y_few, point, max(1, iterations // 2), tolerance=1e-4)
    best = loss.topk(min(3, starts), dim=-1, largest=False).indices
    point = point.gather(2, best[..., None].expand(*best.shape, 2))
    width = max(1, POLISH_ELEMENTS // (point.shape[2] * x.shape[1]))
    per_call = max(1, width // x.shape[0])
    for i, j in product(range(0, len(searched), per_call), range(0, x.shape[0], width)):
        some, curves = slice(i, i + per_call), slice(j, j + width)
        members = family.take(range(*some.indices(len(searched))))
        winner = _polish_winner(members, z[curves], target[curves], point[some, curves], iterations)
        k_some = torch.tensor(searched[some], device=x.device)[:, None]
        e_some = torch.arange(x.shape[0], device=x.device)[curves]
        slope = winner[..., 0] / half[curves, 0]
        a[k_some, e_some] = slope
        b[k_some, e_some] = winner[..., 1] - slope * centre[curves, 0]
    return a, b, at_boundary


def _lattices(
    symmetries: Symmetries,
    centre: Tensor,
    half: Tensor,
    ranges: tuple[tuple[float, float], tuple[float, float]],
    grid_number: int,
) -> list[_Lattice]:
    """Choose the candidates ``(alpha, beta)`` that the symmetries leave; ``centre``, ``half`` have shape (E, 1)."""
    (a_low, a_high), (b_low, b_high) = ranges
    linspace = partial(torch.linspace, dtype=half.dtype, device=half.device)
    n_curves = half.shape[0]
    signs = [1.0] if symmetries.reflection else [s for s in (-1.0, 1.0) if s * a_high > 0 or s * a_low > 0]
    a = linspace(a_low, a_high, grid_number)
    if symmetries.reflection:
        step = (a_high - a_low) / (grid_number - 1)
        lowest = 0.0 if a_low < 0 < a_high else min(abs(a_low), abs(a_high))
        highest = max(abs(a_low), abs(a_high))
        a = linspace(lowest, highest, max(2, round((highest - lowest) / step) + 1))
    a = a[a != 0]
    a_edge = (a.abs() == abs(a_low)) | (a.abs() == abs(a_high))

    # slopes and locations in units of the data; both hold 1 exactly, where a bounded domain fits the data exactly
    slopes = (torch.arange(-15, 16, dtype=half.dtype, device=half.device) / 3).exp2()
    relative = torch.cat([s * slopes for s in signs])
    relative_edge = relative.abs() == slopes[-1]
    if symmetries.scaling is not None:
        far = 1.6 * linspace(0, 10, 49).exp2()
        location = torch.cat([-far.flip(0), linspace(-1.5, 1.5, 385), far])
        alpha = torch.tensor(signs, dtype=half.dtype, device=half.device).expand(n_curves, -1)
        no_edge = torch.zeros_like(alpha[0], dtype=torch.bool)
        return [_Lattice(alpha, -alpha[..., None] * location, _border(no_edge, len(location), ends=True))]
    if symmetries.translation is not None:
        alpha = torch.cat([relative.expand(n_curves, -1), a * half], dim=-1).sort(-1).values
        # any beta is as good; this one keeps the largest value of exp at 1
        edge = alpha[0].abs() == alpha[0].abs().amax()
        return [_Lattice(alpha, -alpha.abs()[..., None], _border(edge, 1, ends=False))]
    if symmetries.period is not None:
        # a peak in the slope is about pi / 2 wide in alpha, whatever the unit of x
        top = (a.abs().amax() * half).clamp(min=10.0)
        rows = int((top.amax() / 0.2).clamp(max=1024).ceil())
        rising = linspace(1 / rows, 1, rows)
        alpha = top * torch.cat([s * rising for s in signs])
        phases = symmetries.period[0] * linspace(-0.5, 0.5, 17)[:-1]
        edge = (rising == 1).repeat(len(signs))
        return [_Lattice(alpha, phases.expand(*alpha.shape, -1), _border(edge, len(phases), ends=False))]
    b = linspace(b_low, b_high, grid_number)
    beyond = linspace(1, 5, 9).exp2()
    location = torch.cat([-beyond.flip(0), linspace(-1.5, 1.5, 49), beyond])
    box = _Lattice(a * half, (a * centre)[..., None] + b, _border(a_edge, len(b), ends=True))
    alpha = relative.expand(n_curves, -1)
    data = _Lattice(alpha, -alpha[..., None] * location, _border(relative_edge, len(location), ends=True))
    return [box, data]


def _border(slope_is_edge: Tensor, n_offsets: int, *, ends: bool) -> Tensor:
    """Mark the candidates, shape (A, B), on an outermost slope or, with ``ends``, on the first or last offset."""
    border = slope_is_edge[:, None].repeat(1, n_offsets)
    if ends:
        border[:, [0, -1]] = True
    return border


def _scan(family: _Family, z: Tensor, y: Tensor, lattices: list[_Lattice], starts: int) -> tuple[Tensor, Tensor]:
    """Return the best local maxima of the lattices, shape (E, S, 2), and whether the best one is on a border, (E,)."""
    points, scores, borders = [], [], []
    for lattice in lattices:
        score = _score(family, z, y, lattice)
        is_peak = score == torch.nn.functional.max_pool2d(score, kernel_size=3, stride=1, padding=1)
        count = min(-(-starts // len(lattices)), score[0].numel())
        # other candidates come after the peaks: a narrow domain may leave a single peak, on its border
        top, index = torch.where(is_peak & (score > 0), score, score - 1).flatten(1).topk(count, dim=-1)
        alpha = lattice.alpha[..., None].expand_as(lattice.beta)
        candidates = torch.stack([alpha, lattice.beta], dim=-1).flatten(1, 2)
        points.append(candidates.gather(1, index[..., None].expand(-1, -1, 2)))
        scores.append(top)
        borders.append(lattice.border.flatten()[index])
    # a small lattice may hold fewer candidates than starts: repeat the best ones
    order = torch.cat(scores, dim=-1).argsort(-1, descending=True)
    order = order[:, torch.arange(starts, device=z.device) % order.shape[1]]
    point = torch.cat(points, dim=1).gather(1, order[..., None].expand(-1, -1, 2))
    return point, torch.cat(borders, dim=-1).gather(1, order)[:, 0]


def _score(family: _Family, z: Tensor, y: Tensor, lattice: _Lattice) -> Tensor:
    """Return the squared correlation of ``f(alpha z + beta)`` and ``y``, shape (E, A, B); 0 where f is not finite."""
    slope = lattice.alpha[..., None].expand_as(lattice.beta).flatten(1)[..., None].to(z.dtype)
    offset = lattice.beta.flatten(1)[..., None].to(z.dtype)
    rows = max(1, _SCAN_ELEMENTS // z.numel())
    (function,), size = family.functions, family.size.to(z.dtype)
    parts = []
    for first in range(0, slope.shape[1], rows):
        some = slice(first, first + rows)
        value = value_of(function, torch.addcmul(offset[:, some], slope[:, some], z[:, None]))
        mean = value.mean(-1, keepdim=True)
        value = value - mean
        norm = torch.linalg.vector_norm(value, dim=-1)
        r2 = ((value @ y[..., None]).squeeze(-1) / norm).square()
        least = _LEAST_SPREAD * math.sqrt(z.shape[-1]) * torch.where(size.isnan(), mean.squeeze(-1).abs(), size)
        parts.append(torch.where((norm > least) & r2.isfinite(), r2, 0.0))
    return torch.cat(parts, dim=1).view(lattice.beta.shape)


def _polish(family: _Family, z: Tensor, y: Tensor, point: Tensor, iterations: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt on ``(alpha, beta)`` for all starts of all curves and functions together.

    Args:
        family: F functions.
        z: Standard abscissae, shape (E, n).
        y: Centred ordinates of norm 1, shape (E, n).
        point: Starts ``(alpha, beta)``, shape (F, E, S, 2).
        iterations: Most steps.
        tolerance: Relative decrease of the loss that ends a start.

    Returns:
        Polished points, and their losses ``1 - R^2`` (inf where not admissible), shape (F, E, S).
    """
    loss, gradient, hessian = _linearise(family, z, y, point)
    damping = torch.full_like(loss, 1e-3)
    done = torch.zeros_like(loss, dtype=torch.bool)
    for _ in range(iterations):
        live = (~done).flatten(1).any(1).nonzero()[:, 0]
        if len(live) == 0:
            break
        trial = point[live] + _damped_step(point[live], gradient[live], hessian[live], damping[live])
        loss_try, gradient_try, hessian_try = _linearise(family.take(live.tolist()), z, y, trial)
        before = loss[live]
        better = loss_try < before
        point[live] = torch.where(better[..., None], trial, point[live])
        loss[live] = torch.where(better, loss_try, before)
        gradient[live] = torch.where(better[..., None], gradient_try, gradient[live])
        hessian[live] = torch.where(better[..., None], hessian_try, hessian[live])
        damping[live] = torch.where(better, damping[live] * 0.1, damping[live] * 8.0)
        # 1e-30 is the square of round-off: nothing is left to gain
        settled = better & ((before - loss_try <= tolerance * before) | (loss_try < 1e-30))
        done[live] |= settled | (damping[live] > 1e8)
    return point, loss


def _linearise(family: _Family, z: Tensor, y: Tensor, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss (F, E, S), and its Gauss-Newton gradient (F, E, S, 2) and Hessian (F, E, S, 3: aa, ab, bb)."""
    u = point[..., :1] * z[:, None] + point[..., 1:]
    value, slope = torch.empty_like(u), torch.empty_like(u)
    for k, function in enumerate(family.functions):
        value[k], slope[k] = _value_and_slope(function, u[k])
    residual, c, centred, norm2 = _project(value, y[:, None], family.size[:, None, None, None])
    loss = residual.square().sum(-1)
    loss = torch.where(loss.isfinite(), loss, torch.inf)

    # an infinite slope sits on the end of a domain, where no step in that direction is possible
    slope = slope.nan_to_num_(0.0, 0.0, 0.0).mul_(c)
    sides = torch.stack([slope * z[:, None], slope], dim=-2)
    # Kaufman: the change of F that c and d cannot absorb
    sides = sides - sides.mean(-1, keepdim=True)
    sides = sides - (sides @ centred[..., None]) / norm2[..., None] * centred[..., None, :]
    sides = sides * family.free[:, None, None, :, None]
    gradient = (sides @ residual[..., None]).squeeze(-1)
    hessian = sides @ sides.mT
    return loss, gradient, torch.stack([hessian[..., 0, 0], hessian[..., 0, 1], hessian[..., 1, 1]], dim=-1)


def _project(value: Tensor, y: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return residual, c, centred F and its squared norm (..., 1); NaN for an F not finite or varying too little.

    ``size`` is what the spread of F is compared with; NaN stands for the mean of F.
    """
    mean = value.mean(-1, keepdim=True)
    centred = value - mean
    norm2 = centred.square().sum(-1, keepdim=True)
    least = _LEAST_SPREAD**2 * value.shape[-1] * torch.where(size.isnan(), mean, size).square()
    norm2 = torch.where(norm2 > least, norm2, torch.nan)
    c = (centred * y).sum(-1, keepdim=True) / norm2
    return y - c * centred, c, centred, norm2


def _damped_step(point: Tensor, gradient: Tensor, hessian: Tensor, damping: Tensor) -> Tensor:
    """Solve ``(H + damping diag H) step = gradient`` in closed form; a direction without curvature stays put."""
    aa, ab, bb = hessian.unbind(-1)
    aa, bb = aa * (1 + damping), bb * (1 + damping)
    aa, bb = torch.where(aa > 0, aa, 1.0), torch.where(bb > 0, bb, 1.0)
    ga, gb = gradient.unbind(-1)
    step = torch.stack([bb * ga - ab * gb, aa * gb - ab * ga], dim=-1) / (aa * bb - ab * ab)[..., None]
    # far from the optimum a Gauss-Newton step may jump to where f is flat, and no slope leads back
    longest = 1 + point.abs().cumsum(-1)
    step = step * (longest / step.abs()).amin(-1, keepdim=True).clamp(max=1.0)
    return step.nan_to_num(0.0, 0.0, 0.0)


def _polish_winner(family: _Family, z: Tensor, y: Tensor, point: Tensor, iterations: int) -> Tensor:
    """Return the best point on all samples, shape (F, E, 2), from a few candidates of shape (F, E, S, 2)."""
    loss, _, _ = _linearise(family, z, y, point)
    point, loss = _polish(family, z, y, _smallest(point, loss), iterations, tolerance=1e-12)
    # slopes lead nowhere for a function of steps, and for one whose data reach the end of its domain
    _, _, hessian = _linearise(family, z, y, point)
    beyond = point[..., 1:] + point[..., :1] * z.new_tensor([-1 - 1e-3, 1 + 1e-3])
    inside = [value_of(f, u).isfinite().all(-1) for f, u in zip(family.functions, beyond, strict=True)]
    stuck = (loss < torch.inf) & (loss > 1e-20) & (~torch.stack(inside) | ~hessian.any(-1))
    for k in stuck.flatten(1).any(1).nonzero()[:, 0].tolist():
        point[k] = _pattern_search(family.take([k]), z, y, point[k])
    return point[:, :, 0]


def _smallest(point: Tensor, loss: Tensor) -> Tensor:
    """Return the point of least loss, shape (..., 1, 2); of equals (aliases, mirror images) the least slope."""
    least = loss.amin(-1, keepdim=True)
    slope = point[..., 0]
    equal = loss <= least * (1 + 1e-6) + 1e-12
    index = torch.where(equal, slope.abs() - 1e-6 * slope, torch.inf).argmin(-1, keepdim=True)
    return point.gather(-2, index[..., None].expand(*index.shape, 2))


def _pattern_search(family: _Family, z: Tensor, y: Tensor, point: Tensor) -> Tensor:
    """Improve ``point``, shape (E, 1, 2), without slopes: the best of its neighbours at ever smaller distances.

    The values of u at z = -1 and z = 1 are moved, so that one which is the end of a domain can stay there exactly.
    """
    (function,), free, size = family
    # neighbours lie dense where that is cheap: the best step of a step function is as wide as the gap of two samples
    count = 5 if bool(free.all()) else 33
    ticks = torch.linspace(-1, 1, count, dtype=z.dtype, device=z.device)
    still = torch.zeros_like(ticks[:1])
    steps = torch.cartesian_prod(*(ticks if is_free else still for is_free in free[0].tolist()))
    # no move comes first, so that the point stays when nothing is better
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


def _standardised(y: Tensor) -> Tensor:
    """Return ``y`` (E, n) centred and of norm 1; a constant row becomes 0."""
    y = y - y.mean(-1, keepdim=True)
    norm = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
    return y / torch.where(norm > 0, norm, 1.0)


def value_of(function: SymbolicFunction, u: Tensor) -> Tensor:
    """``f(u)``, checked to keep the shape of its argument."""
    value = function.torch_fun(u)
    if not isinstance(value, Tensor) or value.shape != u.shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"The symbolic function {function.name!r} must return a tensor of the shape of its argument, "
            f"{tuple(u.shape)}, got {got}; write it elementwise."
        )
    return value.detach().to(u.dtype)


def _value_and_slope(function: SymbolicFunction, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return f(u) and f'(u), by autograd or, where torch has no derivative (Bessel functions), by a difference."""
    try:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            value = function.torch_fun(u)
            if isinstance(value, Tensor) and value.requires_grad:
                (slope,) = torch.autograd.grad(value.sum(), u)
                return value.detach(), slope
    except (RuntimeError, NotImplementedError):
        pass  # some functions of torch, such as bessel_j0, have no derivative there: differences serve them below
    u = u.detach()
    step = 6e-6 * (1 + u.abs())
    return value_of(function, u), (value_of(function, u + step) - value_of(function, u - step)) / (2 * step)
