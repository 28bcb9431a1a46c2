r"""The best member of a family, :math:`y \approx c\,f(a x + b;\,\theta) + d`, for a batch of curves.

In normalised abscissae every family is :math:`\sum_k c_k\,\phi_k(z;\,q) + d`, with one or two columns :math:`\phi_k` and two nonlinear
parameters q; polynomials have none. The linear parameters are projected out (variable projection, as in `kan.symbolic.affine_fit`). The
search for q starts at the best points of a bank (`kan.symbolic.starts`), which Levenberg-Marquardt steps refine.

=========  =====================================================  ============================
family     columns                                                q
=========  =====================================================  ============================
x^p        :math:`(\sigma z + l)^p`                               l, p; the sign is kept
damped     :math:`e^{k z}\sin w z,\ e^{k z}\cos w z`              k, w
x_sin      :math:`z \sin(w z + \varphi),\ \sin(w z + \varphi)`    w, phase
rational   :math:`(z - m) / Q,\ 1 / Q;\ Q = (z - m)^2 + v`        m, v
=========  =====================================================  ============================
"""

__all__ = ["fit_family"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kan.solvers.batched_levenberg_marquardt import Quadratic, damped_step, minimise_each

from .families import Family, ParametricFunction, damped, polynomial, power, rational, x_sin
from .linear_parameters import SampledCurves, fit_linear_parameters, subsample
from .search import GIVE_UP, longest_step
from .starts import Bank, gridded, of_lattices, standardised

STARTS = 5
"""Number of starting points that are refined for every curve."""

MAX_EXPONENT = 12.0
"""Largest absolute exponent of a power; with a larger one, a power is hardly different from an exponential."""

MAX_RATE = 20.0
"""Largest ratio of the rate to the angular frequency of a damped oscillation; beyond it, no oscillation is visible."""


@dataclass(frozen=True)
class _Model:
    """Columns, starting points and parametrisation of a family.

    Args:
        columns: ``(z, q) -> (..., K, n)``, with the derivatives with respect to q, ``(..., 2, K, n)``.
        lattices: Candidates for starting points, shape (A, B, 2 or 3) each. A third entry of q is a sign, which is kept.
        row: ``(q, coefficients, half, centre) -> (function, a, b)``, all numbers.
        extra: A function that computes one more starting point from curves (E, n).
    """

    columns: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    lattices: Callable[[], list[Tensor]]
    row: Callable[[list[float], list[float], float, float], tuple[ParametricFunction, float, float]]
    extra: Callable[[Tensor, Tensor], Tensor] | None = None


def fit_family(family: Family, x: Tensor, y: Tensor) -> tuple[list[ParametricFunction], Tensor, Tensor]:
    """Fit the members of a family to curves of shape (N, E).

    Returns:
        The best member for every curve, ``(a, b, c, d)`` of shape (E, 4), and 1 - R^2 of shape (E,); both in float64.
    """
    with torch.inference_mode(False), torch.no_grad():
        xs, ys = (values.detach().to(torch.float64).mT.contiguous() for values in (x, y))
        few, target = subsample(xs, ys)
        low, high = few.amin(-1, keepdim=True), few.amax(-1, keepdim=True)
        centre, half = (high + low) / 2, (high - low) / 2
        half = torch.where(half > 0, half, 1.0)
        z, order = ((few - centre) / half).clamp(-1.0, 1.0).sort(-1)
        target = standardised(target.gather(-1, order))
        if family.row is polynomial:
            found = _polynomials(z, target, family.constants, half, centre)
        else:
            found = _nonlinear(_MODELS[family.name], z, target, half, centre)
        rows, affine, deficit = [], [], []
        for e, (row, a, b) in enumerate(found):
            one = slice(e, e + 1)
            tried = fit_linear_parameters(row, SampledCurves.of(xs[one], ys[one]), xs.new_tensor([a]), xs.new_tensor([b]))
            rows.append(row)
            affine.append(tried[0][0])
            deficit.append(tried[1][0])
        return rows, torch.stack(affine), torch.stack(deficit)


def _polynomials(z: Tensor, y: Tensor, degree: int, half: Tensor, centre: Tensor) -> list[tuple[ParametricFunction, float, float]]:
    """Fit polynomials in the Chebyshev basis and convert them to powers of x, or of x - centre where x is far from 0."""
    columns = [torch.ones_like(z), z]
    while len(columns) <= degree:
        columns.append(2 * z * columns[-1] - columns[-2])
    coefficients = torch.linalg.lstsq(torch.stack(columns, -1), y[..., None]).solution[..., 0]
    found = []
    for row, h, m in zip(coefficients.tolist(), half[:, 0].tolist(), centre[:, 0].tolist(), strict=True):
        shift = 0.0 if abs(m) <= 3 * h else -m
        powers = _composed(_monomials(row), 1 / h, -(m + shift) / h)[1:]
        leading = powers[-1] or 1.0
        found.append((polynomial([t / leading for t in powers]), 1.0, shift))
    return found


def _monomials(chebyshev: list[float]) -> list[float]:
    """Return the coefficients of powers for given coefficients of Chebyshev polynomials."""
    before, now = [1.0], [0.0, 1.0]
    total = [0.0] * len(chebyshev)
    for n, t in enumerate(chebyshev):
        for k, v in enumerate(before):
            total[k] += t * v
        if n + 1 < len(chebyshev):
            doubled = [0.0, *(2 * v for v in now)]
            before, now = now, [v - (before[k] if k < len(before) else 0.0) for k, v in enumerate(doubled)]
    return total


def _composed(powers: list[float], a: float, b: float) -> list[float]:
    """Return the coefficients of the polynomial p(a x + b)."""
    total = [0.0]
    for t in reversed(powers):
        total = [(a * (total[k - 1] if k else 0.0)) + (b * total[k] if k < len(total) else 0.0) for k in range(len(total) + 1)]
        total[0] += t
    return total[: len(powers)]


def _nonlinear(model: _Model, z: Tensor, y: Tensor, half: Tensor, centre: Tensor) -> list[tuple[ParametricFunction, float, float]]:
    n = z.shape[1]
    ranks = torch.linspace(0, n - 1, min(n, 128), device=z.device).round().long()
    q, _ = _bank(model, z.device).starts(gridded(z, y), STARTS)
    if model.extra is not None:
        q = torch.cat([q[:, :-1], model.extra(z, y)[:, None]], 1)
    q, loss = _polish(model, z[:, ranks], standardised(y[:, ranks]), q, 12, 1e-3)
    best = loss.topk(2, dim=-1, largest=False).indices
    q = q.gather(1, best[..., None].expand(-1, -1, q.shape[-1]))
    q, loss = _polish(model, z, y, q, 40, 1e-9)
    q = q.gather(1, loss.argmin(-1)[:, None, None].expand(-1, 1, q.shape[-1]))
    coefficients = _linearise(model, z, y, q)[1][:, 0].nan_to_num(1.0, 1.0, 1.0)  # any row will do where none fits
    numbers = zip(q[:, 0].tolist(), coefficients.tolist(), half[:, 0].tolist(), centre[:, 0].tolist(), strict=True)
    return [model.row(*found) for found in numbers]


def _polish(model: _Model, z: Tensor, y: Tensor, q: Tensor, iterations: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt on q of shape (E, S, 2 or 3) for curves (E, n); also the losses 1 - R^2, (E, S)."""
    signs = q[..., 2:]
    free, loss = minimise_each(
        lambda rows, free: _linearise(model, z[rows], y[rows], torch.cat([free, signs[rows]], -1))[0],
        q[..., :2],
        iterations,
        tolerance,
        lambda _, free, around, damping: free + damped_step(around.gradient, around.hessian, damping, longest_step(free)),
        worthwhile=GIVE_UP,
    )
    return torch.cat([free, signs], -1), loss


def _linearise(model: _Model, z: Tensor, y: Tensor, q: Tensor) -> tuple[Quadratic, Tensor]:
    """The model of the loss around q, (E, S, 2 or 3), and the coefficients (E, S, K) there."""
    columns, slopes = model.columns(z[:, None], q)
    mean = columns.mean(-1, keepdim=True)
    columns = columns - mean
    y = y[:, None]
    first = columns[..., 0, :]
    norm = first.norm(dim=-1, keepdim=True)
    norm = torch.where(norm > 1e-4 * math.sqrt(z.shape[-1]) * mean[..., 0, :].abs(), norm, torch.nan)
    basis = [first / norm]
    if columns.shape[-2] == 1:
        coefficients = (basis[0] * y).sum(-1, keepdim=True) / norm
    else:
        second = columns[..., 1, :]
        size = second.norm(dim=-1, keepdim=True)
        overlap = (second * basis[0]).sum(-1, keepdim=True)
        second = second - overlap * basis[0]
        again = (second * basis[0]).sum(-1, keepdim=True)
        second, overlap = second - again * basis[0], overlap + again
        left = second.norm(dim=-1, keepdim=True)
        left = torch.where(left > 1e-6 * size, left, torch.nan)
        basis.append(second / left)
        c1 = (basis[1] * y).sum(-1, keepdim=True) / left
        coefficients = torch.cat([((basis[0] * y).sum(-1, keepdim=True) - overlap * c1) / norm, c1], -1)
    span = torch.stack(basis, -2)
    residual = y - (span * (span @ y[..., None])).sum(-2)
    residual = residual - (span * (span @ residual[..., None])).sum(-2)
    loss = residual.square().sum(-1)
    loss = torch.where(loss.isfinite(), loss, torch.inf)
    sides = (slopes * coefficients[..., None, :, None]).sum(-2)
    sides = sides - sides.mean(-1, keepdim=True)
    sides = (sides - (sides @ span.mT) @ span).nan_to_num(0.0, 0.0, 0.0)
    gradient = (sides @ residual.nan_to_num(0.0)[..., None]).squeeze(-1)
    return Quadratic(loss, gradient, sides @ sides.mT), coefficients


@lru_cache(maxsize=16)
def _bank(model: _Model, device: torch.device) -> Bank:
    lattices = [lattice.to(device) for lattice in model.lattices()]
    return of_lattices(lattices, lambda z, q: model.columns(z[None], q[None])[0][0], math.nan)


# Columns and their derivatives, for z of shape (E, 1, n) and q of shape (E, S, 2 or 3).


def _power_columns(z: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    location, p, sign = (v[..., None] for v in q.unbind(-1))
    u = sign * z + location
    value = torch.where(p.abs() <= MAX_EXPONENT, u, torch.nan).pow(p)
    log = torch.where(u > 0, u, torch.nan).log()
    return value[..., None, :], torch.stack([p * value / u, value * log], -2)[..., None, :]


def _damped_columns(z: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    k, w = (v[..., None] for v in q.unbind(-1))
    size = torch.where(k.abs() <= MAX_RATE * w.abs(), k * z, torch.nan).exp()
    sine, cosine = size * (w * z).sin(), size * (w * z).cos()
    columns = torch.stack([sine, cosine], -2)
    return columns, torch.stack([columns * z[..., None, :], torch.stack([cosine * z, -sine * z], -2)], -3)


def _x_sin_columns(z: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    w, phase = (v[..., None] for v in q.unbind(-1))
    sine, cosine = (w * z + phase).sin(), (w * z + phase).cos()
    columns = torch.stack([z * sine, sine], -2)
    by_phase = torch.stack([z * cosine, cosine], -2)
    return columns, torch.stack([by_phase * z[..., None, :], by_phase], -3)


def _rational_columns(z: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    m, v = (w[..., None] for w in q.unbind(-1))
    t = z - m
    inverse = 1 / (t * t + v)
    columns = torch.stack([t * inverse, inverse], -2)
    square = inverse * inverse
    by_m = torch.stack([2 * t * t * square - inverse, 2 * t * square], -2)
    return columns, torch.stack([by_m, -columns * inverse[..., None, :]], -3)


# Starting points


def _geometric(low: int, high: int) -> Tensor:
    return torch.arange(low, high, dtype=torch.float64).div(2).exp2()


def _grid(*axes: Tensor) -> Tensor:
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def _power_lattices() -> list[Tensor]:
    exponents = torch.arange(-24, 25, dtype=torch.float64) / 4
    found = []
    for sign in (1.0, -1.0):
        for some in (exponents[exponents < 0], exponents[exponents > 0]):
            points = _grid(1 + torch.cat([torch.zeros(1, dtype=torch.float64), _geometric(-20, 9)]), some)
            found.append(torch.cat([points, torch.full_like(points[..., :1], sign)], -1))
    return found


def _damped_lattices() -> list[Tensor]:
    rate = _geometric(-5, 9)
    frequency = torch.linspace(0.5, 40, 100, dtype=torch.float64)
    return [_grid(torch.cat([-rate.flip(0), rate]), frequency)]


def _x_sin_lattices() -> list[Tensor]:
    phase = torch.arange(8, dtype=torch.float64) * (math.pi / 8)
    return [_grid(torch.linspace(0.3, 40, 130, dtype=torch.float64), phase)]


def _rational_lattices() -> list[Tensor]:
    complex_poles = _grid(torch.linspace(-2, 2, 33, dtype=torch.float64), _geometric(-26, 9))
    beyond = 1 + _geometric(-14, 6)
    first, second = torch.meshgrid(*[torch.cat([-beyond.flip(0), beyond])] * 2, indexing="ij")
    real_poles = torch.stack([(first + second) / 2, -((first - second) / 2).square()], -1)
    return [complex_poles, real_poles]


def _linear_rational(z: Tensor, y: Tensor) -> Tensor:
    """Return (m, v) from least squares on ``y Q = P``, linear in the coefficients; weights 1 / Q turn its residual into that of y."""
    weight = torch.ones_like(z)
    q = z.new_zeros(z.shape[0], 2)
    for _ in range(3):
        design = torch.stack([z * y, y, -torch.ones_like(z), -z, -z * z], -1) * weight[..., None]
        solution = torch.linalg.lstsq(design, (-z * z * y * weight)[..., None]).solution[..., 0]
        q = solution[:, :2].nan_to_num(0.0, 0.0, 0.0)
        weight = 1 / (z * z + q[:, :1] * z + q[:, 1:]).abs().clamp(min=1e-6)
    m = -q[:, 0] / 2
    return torch.stack([m, q[:, 1] - m * m], -1)


# Members of the families in the units of x, with z = (x - centre) / half.


def _power_row(q: list[float], _: list[float], half: float, centre: float) -> tuple[ParametricFunction, float, float]:
    location, p, sign = q
    return power(p), sign, location * half - sign * centre


def _damped_row(q: list[float], c: list[float], half: float, centre: float) -> tuple[ParametricFunction, float, float]:
    k, w = q
    if w < 0:
        w, c = -w, [-c[0], c[1]]
    a = w / half
    b = math.atan2(c[1], c[0]) - a * centre
    return damped([k / w]), a, b - math.pi * math.ceil(b / math.pi - 0.5)


def _x_sin_row(q: list[float], c: list[float], half: float, centre: float) -> tuple[ParametricFunction, float, float]:
    w, phase = q
    if w < 0:
        w, phase = -w, -phase
    shift = (c[1] * w / c[0] if c[0] else 0.0) - phase
    a = w / half
    b = phase - a * centre
    turns = math.pi * math.ceil(b / math.pi - 0.5)
    return x_sin([shift + turns]), a, b - turns


def _rational_row(q: list[float], c: list[float], half: float, centre: float) -> tuple[ParametricFunction, float, float]:
    (m, v), (c1, c0) = q, c
    width = math.sqrt(abs(v)) or 1.0
    p1, p0 = c1, c0 / width
    largest = max(abs(p0), abs(p1)) or 1.0
    leading = p0 if abs(p0) == largest else p1
    a = 1 / (half * width)
    return rational([p0 / (leading or 1.0), p1 / (leading or 1.0)], [math.copysign(1.0, v), 0.0]), a, -a * (centre + m * half)


_MODELS = {
    "x^p": _Model(_power_columns, _power_lattices, _power_row),
    "damped": _Model(_damped_columns, _damped_lattices, _damped_row),
    "x_sin": _Model(_x_sin_columns, _x_sin_lattices, _x_sin_row),
    "rational": _Model(_rational_columns, _rational_lattices, _rational_row, _linear_rational),
}
