r"""Starting points of the search for :math:`(\alpha, \beta)` in :math:`y \approx c\,f(\alpha z + \beta) + d`.

Abscissae are normalised to :math:`z \in [-1, 1]`, so that the candidates depend on the function alone. They form lattices:

* powers, roots and logarithms: locations of the singular point, at geometric distances from both ends and, if :math:`f` is defined on both
  sides of it, between them;
* exponentials: geometric rates;
* periodic functions: low frequencies times phases, and high frequencies from a periodogram of the samples;
* functions on an interval (arcsin): values of :math:`u` at both ends of the data;
* all others: geometric slopes times locations.

Candidates and curves are compared on a common grid of 129 points. A curve is averaged where its samples are dense, and interpolated
linearly elsewhere. A candidate is a unit vector there, computed once and kept in a bank, so that :math:`R^2` of all candidates for all
curves is one matrix product.
"""

__all__ = ["DOMAINS", "Bank", "Lattice", "bank_of", "gridded", "of_lattices", "periodogram", "starts_of"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tensor

from .function import SymbolicFunction, TorchFun
from .slopes import value_of
from .symmetries import Symmetries

POINTS = 129
"""Number of points of the common grid; odd, so that 0 is one of them."""

LEAST_SPREAD = 1e-4
"""Smallest admissible standard deviation of the values of f over a curve, relative to the size of f. It bounds c and d, which would grow
without limit where a wrong function imitates a line or a tail."""

DOMAINS: dict[TorchFun, tuple[float, float]] = {
    torch.arcsin: (-1.0, 1.0),
    torch.arccos: (-1.0, 1.0),
    torch.arctanh: (-1.0, 1.0),
}
"""Functions that are defined on an interval only, and the ends of this interval."""

Lattice: TypeAlias = Tensor
"""Candidates on a two-dimensional lattice, shape (A, B, 2); neighbours on the lattice are close to each other."""


@dataclass(frozen=True, eq=False)
class Bank:
    """Candidates of one function or family with their curves.

    Args:
        points: The two nonlinear parameters of C candidates, shape (C, 2).
        curves: Orthonormal centred columns of every candidate on the grid, float32, shape (C, K, POINTS); zero where not admissible.
        shapes: Sizes (A, B) of the lattices that the candidates come from, one after the other.
    """

    points: Tensor
    curves: Tensor
    shapes: tuple[tuple[int, int], ...]

    def starts(self, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the best local maxima of R^2 over the candidates, for curves ``y`` of shape (E, POINTS) that `gridded` has made.

        Args:
            y: The curves.
            count: Number S of points per curve.

        Returns:
            Points (E, S, 2) and R^2 (E, S).
        """
        scores = (y @ self.curves.flatten(0, 1).mT).unflatten(-1, self.curves.shape[:2]).square().sum(-1)
        ranked = []
        for part, (n_a, n_b) in zip(scores.split([a * b for a, b in self.shapes], -1), self.shapes, strict=True):
            part = part.unflatten(-1, (n_a, n_b))
            is_peak = part == torch.nn.functional.max_pool2d(part, kernel_size=3, stride=1, padding=1)
            # Other candidates rank behind the maxima, since a narrow domain may leave a single maximum, on its boundary.
            ranked.append(torch.where(is_peak & (part > 0), part, part - 1).flatten(1))
        order = torch.cat(ranked, -1).topk(min(count, scores.shape[-1]), -1).indices
        order = order[:, torch.arange(count, device=y.device) % order.shape[-1]]
        return self.points[order], scores.gather(-1, order)


def of_lattices(lattices: Sequence[Lattice], columns: Callable[[Tensor, Tensor], Tensor], least: float) -> Bank:
    """Make a bank of the candidates of some lattices.

    Args:
        lattices: The candidates.
        columns: ``columns(z, points)``, of shape (C, K, POINTS), the curves of the candidates.
        least: Standard deviation below which a candidate is not admissible; NaN for `LEAST_SPREAD` times its largest mean.
    """
    points = torch.cat([lattice.flatten(0, 1) for lattice in lattices])
    z = torch.linspace(-1, 1, POINTS, dtype=points.dtype, device=points.device)
    value = columns(z, points)
    mean = value.mean(-1, keepdim=True)
    floor = least if math.isfinite(least) else LEAST_SPREAD * mean.abs().amax(-2, keepdim=True)
    value = value - mean
    void = ~(value.isfinite().all(-1, keepdim=True) & (value.square().mean(-1, keepdim=True).sqrt() > floor)).all(-2, keepdim=True)
    value = torch.where(void, 0.0, value)
    if value.shape[1] > 1:
        value = value / value.norm(dim=-1, keepdim=True).clamp(min=1e-300)
        value = torch.linalg.qr(value.mT).Q.mT  # orthonormal; linearly dependent columns do no harm in a search
        value = torch.where(void, 0.0, value)
    else:
        value = value / value.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    return Bank(points, value.float(), tuple((lattice.shape[0], lattice.shape[1]) for lattice in lattices))


def gridded(z: Tensor, y: Tensor) -> Tensor:
    """Return curves (E, n) with sorted abscissae in [-1, 1] on the common grid, centred, of norm 1, in float32, (E, POINTS)."""
    cells = ((z + 1) * ((POINTS - 1) / 2)).round().long()
    count = torch.zeros(z.shape[0], POINTS, dtype=z.dtype, device=z.device).scatter_add_(1, cells, torch.ones_like(z))
    total = torch.zeros_like(count).scatter_add_(1, cells, y)
    at = torch.linspace(-1, 1, POINTS, dtype=z.dtype, device=z.device).expand_as(count).contiguous()
    right = torch.searchsorted(z, at).clamp(1, z.shape[1] - 1)
    z0, z1, y0, y1 = z.gather(1, right - 1), z.gather(1, right), y.gather(1, right - 1), y.gather(1, right)
    gap = torch.where(z1 > z0, z1 - z0, 1.0)
    line = torch.lerp(y0, y1, ((at - z0) / gap).clamp(0, 1))
    return standardised(torch.where(count > 2, total / count.clamp(min=1), line)).float()


def standardised(y: Tensor) -> Tensor:
    """Return ``y`` (E, n) centred and of norm 1; a constant row becomes 0."""
    y = y - y.mean(-1, keepdim=True)
    norm = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
    return y / torch.where(norm > 0, norm, 1.0)


def periodogram(z: Tensor, y: Tensor, count: int, least: float) -> Tensor:
    """Return the angular frequencies above ``least`` of the highest peaks of centred curves (E, n), shape (E, count).

    The samples are binned on a grid fine enough for the highest frequency that n samples can resolve.
    """
    cells = 2 ** math.ceil(math.log2(min(max(2 * z.shape[1], 256), 8192)))
    where = ((z + 1) * ((cells - 1) / 2)).round().long()
    fine = torch.zeros(z.shape[0], cells, dtype=z.dtype, device=z.device).scatter_add_(1, where, y)
    power = torch.fft.rfft(fine, 8 * cells).abs()
    frequency = torch.arange(power.shape[1], dtype=z.dtype, device=z.device) * (2 * math.pi / (8 * cells) * (cells - 1) / 2)
    # The Nyquist limit: 1000 evenly spaced samples cannot resolve more than 500 periods.
    allowed = (frequency > least) & (frequency < math.pi * z.shape[1] / 2)
    peak = (power == torch.nn.functional.max_pool1d(power, 3, 1, 1)) & allowed
    highest: Tensor = torch.where(peak, power, -1.0).topk(count, -1).indices
    found: Tensor = frequency[highest]
    return found


def starts_of(function: SymbolicFunction, z: Tensor, y: Tensor, on_grid: Tensor, count: int) -> Tensor:
    """Return starting points ``(alpha, beta)``, shape (E, S, 2).

    Args:
        function: The function.
        z: Normalised abscissae, sorted, shape (E, n).
        y: Centred ordinates of norm 1, shape (E, n).
        on_grid: The same curves on the common grid, see `gridded`.
        count: Number S of points per curve.
    """
    symmetries = function.symmetries
    if function.torch_fun is torch.sign:
        return _step(z, y)[:, None].expand(-1, count, -1)
    points, _ = bank_of(function, z.device).starts(on_grid, count)
    if symmetries.scaling is not None and symmetries.reflection is not None and symmetries.scaling[0] < 0:
        # A pole within the data lies in a gap between samples, beside the largest value.
        peak = (y - y.median(-1, keepdim=True).values).abs().argmax(-1, keepdim=True).clamp(1, max(1, z.shape[1] - 2))
        around = z.gather(1, torch.cat([peak - 1, peak, (peak + 1).clamp(max=z.shape[1] - 1)], -1))
        where = torch.cat([around[:, :2].mean(-1, keepdim=True), around[:, 1:].mean(-1, keepdim=True)], -1)
        points = torch.cat([points[:, : count - 2], torch.stack([torch.ones_like(where), -where], -1)], 1)[:, :count]
    elif symmetries.period is not None and function.torch_fun is not torch.tan and z.shape[1] > 16:
        period, sign = symmetries.period
        turn = period if sign > 0 else 2 * period
        n = min(4, max(1, count // 2))
        alpha = periodogram(z, y, n, 8.0) * (turn / (2 * math.pi))
        phase = torch.linspace(-0.5, 0.5, 9, dtype=z.dtype, device=z.device)[:-1] * period
        few = slice(None, None, max(1, z.shape[1] // 1024))
        u = alpha[:, :, None, None] * z[:, None, None, few] + phase[:, None]
        wave = standardised(value_of(function, u).flatten(0, 2)).unflatten(0, tuple(u.shape[:3]))
        best = (wave @ y[:, None, few, None]).squeeze(-1).square().nan_to_num(0.0).argmax(-1)
        points = torch.cat([points[:, : count - n], torch.stack([alpha, phase[best]], -1)], 1)
    return points


def _step(z: Tensor, y: Tensor) -> Tensor:
    """Return the best step (E, 2) of sorted curves, between the samples where the variance between both sides is largest."""
    n = z.shape[1]
    left = torch.arange(1, n, dtype=z.dtype, device=z.device)
    between = (y - y.mean(-1, keepdim=True)).cumsum(-1)[:, :-1].square() / (left * (n - left))
    between = torch.where(z[:, 1:] > z[:, :-1], between, -1.0)
    best = between.argmax(-1, keepdim=True)
    where = (z.gather(1, best) + z.gather(1, best + 1)) / 2
    return torch.cat([torch.ones_like(where), -where], -1)


def bank_of(function: SymbolicFunction, device: torch.device) -> Bank:
    """Return the bank of one function, which is kept for the next call."""
    try:
        return _kept_bank(function, device)
    except TypeError:  # the function cannot be hashed, and so cannot be a key of the cache
        bank: Bank = _kept_bank.__wrapped__(function, device)
        return bank


@lru_cache(maxsize=64)
def _kept_bank(function: SymbolicFunction, device: torch.device) -> Bank:
    def columns(z: Tensor, points: Tensor) -> Tensor:
        return value_of(function, points[:, :1] * z + points[:, 1:])[:, None]

    symmetries, least = function.symmetries, math.nan
    if symmetries.translation is None and (symmetries.scaling is None or symmetries.scaling[0] == 0):
        value = value_of(function, torch.linspace(-2, 2, 257, dtype=torch.float64, device=device))
        least = LEAST_SPREAD * float(value[value.isfinite()].std(correction=0).nan_to_num(0.0))
    return of_lattices(lattices_of(function.torch_fun, symmetries, device), columns, least)


def lattices_of(fun: TorchFun, symmetries: Symmetries, device: torch.device) -> list[Lattice]:
    """Return the candidates ``(alpha, beta)`` of a function, without those that its symmetries make redundant."""
    signs = [1.0] if symmetries.reflection else [1.0, -1.0]
    if symmetries.scaling is not None:
        return [located(sign, inside=symmetries.reflection is not None, device=device) for sign in signs]
    if symmetries.translation is not None:
        rate = torch.arange(-18, 28, dtype=torch.float64, device=device).div(3).exp2()
        # Every beta describes the same curves; this one makes 1 the largest value of exp.
        return [torch.stack([sign * rate, -rate], -1)[:, None] for sign in signs]
    if symmetries.period is not None:
        alpha = torch.linspace(0.1, 12, 120, dtype=torch.float64, device=device)
        phase = torch.linspace(-0.5, 0.5, 9, dtype=torch.float64, device=device)[:-1] * symmetries.period[0]
        return [_product(sign * alpha, phase) for sign in signs]
    if fun in DOMAINS:
        ends = torch.linspace(-math.pi / 2, math.pi / 2, 25, dtype=torch.float64, device=device).sin()
        if fun is torch.arctanh:
            ends = torch.linspace(-8, 8, 33, dtype=torch.float64, device=device).tanh()
        low, high = torch.meshgrid(ends, ends, indexing="ij")
        return [torch.stack([(high - low) / 2, (high + low) / 2], -1)]
    lattices = []
    for sign in signs:
        for slopes, bound, n in (((-10, 5), 4.0, 65), ((5, 14), 1.25, 161)):
            alpha = torch.arange(*slopes, dtype=torch.float64, device=device).div(2).exp2()
            location = torch.linspace(-bound, bound, n, dtype=torch.float64, device=device)
            lattices.append(torch.stack([sign * alpha[:, None].expand(-1, n), -sign * alpha[:, None] * location], -1))
        # Oscillations of unknown shape.
        alpha, beta = (torch.linspace(*ends, dtype=torch.float64, device=device) for ends in ((0.25, 16, 64), (-10, 10, 41)))
        lattices.append(_product(sign * alpha, beta))
    return lattices


def located(sign: float, *, inside: bool, device: torch.device) -> Lattice:
    """Return ``(sign, -sign * location)``, shape (A, 1, 2), for locations at geometric distances from [-1, 1] and, if wanted, inside."""
    distance = torch.arange(-34, 21, dtype=torch.float64, device=device).div(2).exp2()
    distance = torch.cat([torch.zeros_like(distance[:1]), distance])
    middle = (torch.arange(POINTS - 1, dtype=torch.float64, device=device) + 0.5) / (POINTS - 1) * 2 - 1
    before, after = -1 - distance.flip(0), 1 + distance
    location = torch.cat([before, middle, after]) if inside else (before if sign > 0 else after)
    return torch.stack([torch.full_like(location, sign), -sign * location], -1)[:, None]


def _product(first: Tensor, second: Tensor) -> Lattice:
    return torch.stack(torch.meshgrid(first, second, indexing="ij"), -1)
