r"""Knot insertion: more grid intervals where they count, with the function unchanged.

A spline is a spline on any knots that contain its own, so that intervals can be divided at will. Where to divide: on an interval of
length h the best spline of degree k misses a function by about ``c |f^(k+1)| h^(k+1)``, and an error of an edge is as bad as the outputs
are sensitive to it and as there are samples. With the density of samples ``rho`` and ``D^2 = sum_j E[(d out / d phi_ij)^2] (f_ij^(k+1))^2``
the mean squared error ``int rho D^2 h^(2k+2) dx`` of a given number of intervals is least where

    ``h ~ (rho D^2)^(-1/(2k+3))``.

The derivative ``f^(k+1)`` is read off the jumps of the k-th one at the present knots.

References
    C. de Boor, "A Practical Guide to Splines", 1978, chapter XII (the distribution of knots).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kan.bases.bspline import basis_rows
from kan.bases.knots import core, extend_knots
from kan.layers.grid_change import set_grid_
from kan.layers.kan_layer import KANLayer
from kan.network.network import Network
from kan.network.trace import slopes_of

__all__ = ["beyond_grids", "check_sizes", "insert_knots_", "reaching_knots"]

MARGIN = 0.005
"""How far grids reach beyond their samples at least, as a share of the samples' range: other data reach a little farther, and splines fade
beyond the grid."""
NEAR = 1e-3
"""A knot nearer than this share of an interval to the end of the samples is no end of an interval of its own."""
COVERED = 0.9
"""Share of a grid over which samples range at least if the grid is taken for theirs. Hidden nodes that shrink during a fit leave knots
behind that serve no sample."""
LEAST = 1e-6
"""Least error density, as a share of the mean."""


def insert_knots_(network: Network, intervals: int | Sequence[int], x: Tensor) -> None:
    """Give every spline more intervals, in place; the function is the same at the samples, to round-off.

    The grids of the hidden nodes get the ends of their samples, and all reach a little farther than these; in between all knots stay. An
    input with more knots between its samples than it may have intervals gets its old grid read at the new number of points instead, and
    splines that interpolate the old ones. Splines of degree 0 may change at a sample that is an end of the old grid, where they jump.
    Layers of other bases get more functions on the same intervals, and keep their functions where the larger space contains the smaller.

    Args:
        network: changed in place; its ``coef`` and ``grid`` are new parameters.
        intervals: per spline, one number or one per layer.
        x: ``(B, inputs)`` samples, as the layers see them.

    Raises:
        ValueError: if `intervals` is no positive integer or list of them, or a basis has no more functions; nothing is changed then.
    """
    counts = network.per_layer("grid", intervals)
    check_sizes(network, counts)
    acts, errors = _looked_at(network, x)
    with torch.no_grad():
        for l, (layer, count) in enumerate(zip(network.numeric_layers, counts, strict=True)):
            if not layer.has_knots:  # the larger space on the same intervals
                set_grid_(layer, layer.basis.refined_grid(layer.grid, layer.basis.resized(count, layer.k)), count)
                continue
            columns = acts[l].t().double().cpu().contiguous()
            ends = [_ends(layer, i, samples, keep=l == 0) for i, samples in enumerate(columns)]
            grids = [_divided(layer, i, samples, errors[l], count, *ends[i]) for i, samples in enumerate(columns)]
            stretch = torch.stack([inner for inner, _ in ends]).to(layer.grid)
            set_grid_(layer, extend_knots(torch.stack(grids).to(layer.grid), layer.k), count, stretch)
    network.grid = [*counts] if hasattr(network.grid, "__len__") or len(set(counts)) > 1 else counts[0]


def check_sizes(network: Network, intervals: Sequence[int]) -> None:
    """Raise ``ValueError`` if a layer's basis has no version of the kind with so many `intervals`, one number per layer."""
    for layer, count in zip(network.numeric_layers, intervals, strict=True):
        layer.basis.resized(count, layer.k)


def reaching_knots(network: Network, intervals: Sequence[int], x: Tensor, adaptive: bool = False) -> list[dict[int, Tensor]]:
    """Knots for the inputs with samples outside of their grids or on a part of them only, which contain all the present knots.

    The grids reach as far as the samples do, and new knots go where the error of the splines is largest. With them every
    spline stays the same function on the whole line, the stretches beyond the old grid included.

    Args:
        network: is left alone.
        intervals: per spline, one number per layer.
        x: ``(B, inputs)`` samples, as the layers see them.
        adaptive: whether to give knots for all inputs.

    Returns:
        For every layer, by the number of the input, knots ``(G' + 2k + 1,)``. Inputs for which so many intervals are too few are left out.
    """
    columns = [values.detach().t() for values in network.layer_trace(x).acts]
    unfit = [_unfit(layer, values, adaptive) for layer, values in zip(network.numeric_layers, columns, strict=False)]
    found: list[dict[int, Tensor]] = [{} for _ in unfit]
    if not any(unfit):
        return found
    acts, errors = _looked_at(network, x)
    with torch.no_grad():
        for l, (layer, count) in enumerate(zip(network.numeric_layers, intervals, strict=True)):
            for i in unfit[l]:
                knots = _reaching(layer, i, acts[l][:, i].double().cpu().contiguous(), errors[l], count)
                if knots is not None:
                    found[l][i] = knots.to(layer.grid)
    return found


@torch.no_grad()
def beyond_grids(network: Network, x: Tensor) -> list[list[int]]:
    """For every layer, the inputs with values outside of their grids at the samples `x` ``(B, inputs)``."""
    return [_outside(layer, values.t()) for layer, values in zip(network.numeric_layers, network.trace(x).acts, strict=False)]


def _outside(layer: KANLayer, columns: Tensor) -> list[int]:
    """Inputs with samples ``(I, B)`` outside of their grids; after a grid update the outermost ones are its ends, but for rounding."""
    grid, (least, largest) = layer.basis.ends(layer.grid), columns.aminmax(dim=1)
    rounding = 8 * torch.finfo(grid.dtype).eps * grid.abs().amax(dim=1)
    beyond = (least < grid[:, 0] - rounding) | (largest > grid[:, -1] + rounding)
    return beyond.nonzero()[:, 0].tolist() if layer.k > 0 or not layer.has_knots else []


def _unfit(layer: KANLayer, columns: Tensor, everything: bool) -> list[int]:
    """Inputs with samples ``(I, B)`` outside of their grids, or on less than `COVERED` of them; or all inputs, if they have knots."""
    if layer.k == 0 or not layer.has_knots:
        return []
    grid, (least, largest) = core(layer.grid, layer.k)[:, [0, -1]], columns.aminmax(dim=1)
    narrow = largest - least < COVERED * (grid[:, 1] - grid[:, 0])
    return sorted({*_outside(layer, columns), *(narrow | everything).nonzero()[:, 0].tolist()})


def _reaching(layer: KANLayer, i: int, samples: Tensor, sensitivity: Tensor, count: int) -> Tensor | None:
    """`reaching_knots` of one input; None if `count` intervals are too few."""
    k, knots = layer.k, layer.grid[i].double().cpu()
    (start, *_, end), spacing = core(layer.grid, k)[i].tolist(), float(core(layer.grid, k)[i, [0, -1]].diff()) / layer.num
    reach = samples.aminmax()
    margin = MARGIN * float(reach.max - reach.min)
    ends = [start if reach.min >= start else float(reach.min) - margin, end if reach.max <= end else float(reach.max) + margin]
    nearest = [float(knots[(knots - place).abs().argmin()]) for place in ends]
    ends = [knot if abs(knot - place) <= NEAR * spacing else place for knot, place in zip(nearest, ends, strict=True)]
    inside = knots[(knots > ends[0]) & (knots < ends[1])]
    points = torch.cat([knots.new_tensor(ends[:1]), inside, knots.new_tensor(ends[1:])])
    if len(points) - 1 > count:
        return None
    grid = _in_pieces(layer, i, points, samples, sensitivity, count)
    steps = spacing * torch.arange(1, k + 1, dtype=knots.dtype)
    below = torch.cat([knots[knots < grid[0]].flip(0), torch.minimum(knots[0], grid[0]) - steps])[:k]
    above = torch.cat([knots[knots > grid[-1]], torch.maximum(knots[-1], grid[-1]) + steps])[:k]
    return torch.cat([below.flip(0), grid, above])


def _looked_at(network: Network, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Node values per layer ``(B, n_l)`` and squared sensitivities of the outputs to the sub-node sums, ``(B, m_{l+1})``."""
    with torch.enable_grad():
        trace = network.layer_trace(x)
        sums = [record.sums for record in trace.layers]
        each = [slopes_of(output, sums, retain=True) for output in trace.last_nodes.unbind(1) if output.requires_grad]
    sensitivity = [torch.stack(parts).square().sum(0) for parts in zip(*each, strict=True)] or [torch.zeros_like(s) for s in sums]
    return [values.detach() for values in trace.acts], sensitivity


def _ends(layer: KANLayer, i: int, samples: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """Where the function has to stay the same, and the ends of the new grid, which reach a little farther, ``(2,)`` each in float64."""
    grid = core(layer.grid, layer.k)[i, [0, -1]].double().cpu()
    seen = torch.stack(samples.aminmax())
    constant = not float(seen[1] - seen[0]) > NEAR * float(grid[1] - grid[0]) / layer.num
    reach = seen + MARGIN * (seen[1] - seen[0]) * torch.tensor([-1.0, 1.0], dtype=seen.dtype)
    if not (keep or constant):
        return seen, reach
    both, farther = (torch.stack([torch.minimum(grid[0], ends[0]), torch.maximum(grid[1], ends[1])]) for ends in (seen, reach))
    return both, farther


def _divided(layer: KANLayer, i: int, samples: Tensor, sensitivity: Tensor, count: int, seen: Tensor, ends: Tensor) -> Tensor:
    """The new grid ``(count + 1,)`` of input `i`: its `ends`, the old knots where it is `seen`, and new ones between them."""
    knots, near = layer.grid[i].double().cpu(), NEAR * (seen[1] - seen[0]) / count
    inside = knots[(knots > seen[0] + near) & (knots < seen[1] - near)].unique()
    points = torch.cat([seen[:1], inside, seen[1:]])
    if len(points) - 1 > count:
        old = core(layer.grid, layer.k)[i].double().cpu().numpy()
        return torch.from_numpy(np.interp(np.linspace(0, len(old) - 1, count + 1), np.arange(len(old)), old))
    return torch.cat([ends[:1], _in_pieces(layer, i, points, samples, sensitivity, count)[1:-1], ends[1:]])


def _in_pieces(layer: KANLayer, i: int, points: Tensor, samples: Tensor, sensitivity: Tensor, count: int) -> Tensor:
    """The intervals between `points` divided into `count` in all, more where the error of the splines is larger: ``(count + 1,)``."""
    lengths = points.diff()
    density = _error_density(layer, i, points, samples, sensitivity)
    shares = _shared_out((lengths * density ** (1 / (2 * layer.k + 3))).tolist(), count)
    pieces = [start + length * torch.arange(n) / n for start, length, n in zip(points[:-1], lengths, shares, strict=True)]
    return torch.cat([*pieces, points[-1:]])


def _error_density(layer: KANLayer, i: int, points: Tensor, samples: Tensor, sensitivity: Tensor) -> Tensor:
    """``rho D^2`` on the intervals between `points`, from above zero on."""
    n = len(points) - 1
    lengths, middles = points.diff(), (points[1:] + points[:-1]) / 2
    functions = basis_rows(middles.to(layer.grid)[None], layer.prepared_grid.taken([i]), layer.k)[0]
    steps = ((layer.coef[i] * (layer.scale_sp[i] * layer.mask[i])[:, None]) @ functions).double().cpu()
    derivative = torch.zeros_like(steps)
    if n > 1:
        jumps = (steps.diff(dim=1) / ((lengths[1:] + lengths[:-1]) / 2)).abs()
        derivative[:, :-1] += jumps
        derivative[:, 1:] += jumps
        derivative[:, 1:-1] /= 2
    place = torch.searchsorted(points[1:-1].contiguous(), samples)
    here = torch.bincount(place, minlength=n).double()
    sums = torch.zeros(n, sensitivity.shape[1], dtype=torch.float64).index_add_(0, place, sensitivity.double().cpu())
    mean = torch.where(here[:, None] > 0, sums / here.clamp(min=1)[:, None], sums.sum(0) / len(samples))
    density = (here + 0.5) / len(samples) / lengths * (mean.t() * derivative.square()).sum(0)
    return density + LEAST * density.mean() + torch.finfo(torch.float64).tiny


def _shared_out(wanted: Sequence[float], count: int) -> list[int]:
    """`count` pieces shared out among intervals so that the largest of ``wanted / pieces`` is least; every one gets at least one."""
    shares = [1] * len(wanted)
    heap = [(-value, j) for j, value in enumerate(wanted)]
    heapq.heapify(heap)
    for _ in range(count - len(wanted)):
        _, j = heap[0]
        shares[j] += 1
        heapq.heapreplace(heap, (-wanted[j] / shares[j], j))
    return shares
