r"""The contract of a basis: ``n`` functions of one variable for every input of a layer.

A layer's edge is ``phi_ij(x) = sum_m w_ijm f_im(x)`` with the basis functions ``f_i1 ... f_in`` of input i. A `Basis` says how many there
are and what their values are; it holds no tensors. What differs from input to input and moves when the data do (knots, the ends of an
interval) is the *grid*, a tensor with one row per input, which belongs to the layer and is saved with it.

A basis is a frozen dataclass: it can be compared, hashed, pickled, copied and printed, and two layers may share one.
Most bases are `IntervalBasis`: functions on ``[-1, 1]``, stretched over the interval of each input.

Symbols
    ``I`` inputs, ``B`` points, ``n`` functions, ``P`` numbers per input in the grid. The batch is the last axis of points ``(I, B)`` and of
    values ``(I, n, B)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from kan.errors import unknown_name
from kan.modes import composed

__all__ = ["EXTRAPOLATIONS", "Basis", "Extrapolation", "IntervalBasis", "check_extrapolation", "varies"]

Extrapolation = Literal["own", "linear", "constant"]
"""Behaviour of the functions outside of their interval: their own values, or a continuation from its ends by tangents or constants."""

EXTRAPOLATIONS: tuple[Extrapolation, ...] = ("own", "linear", "constant")


class Basis(ABC):
    """The contract of a basis of ``n`` functions of one variable for every input; see the module."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of functions ``n`` per input."""

    @abstractmethod
    def initial_grid(self, in_features: int, low: float, high: float) -> Tensor:
        """Return the grid ``(in_features, P)`` for inputs in ``[low, high]``, preferably in float64; the layer rounds it."""

    @abstractmethod
    def adapted_grid(self, samples: Tensor, grid: Tensor, margin: float = 0.0, grid_eps: float = 0.02) -> tuple[Tensor, Tensor]:
        """Return the grid for given samples.

        Args:
            samples: finite samples ``(B, I)``.
            grid: the present grid ``(I, P)``.
            margin: distance by which the interval extends beyond the samples on either side.
            grid_eps: weight of equal spacing, if the points of the grid otherwise follow the quantiles of the samples.

        Returns:
            The new grid ``(I, P)``, and for which inputs the samples determine one, ``(I,)``; the other rows do not change.
        """

    @abstractmethod
    def prepare(self, grid: Tensor) -> Any:
        """Precompute what `rows` needs of `grid`; the result is kept until the grid changes.

        Raises:
            ValueError: if `grid` is not a grid of this basis.
        """

    @abstractmethod
    def rows(self, x: Tensor, prepared: Any) -> Tensor:
        """Evaluate the functions at `x` ``(I, B)``; the values ``(I, n, B)`` can be differentiated any number of times."""

    @abstractmethod
    def sites(self, grid: Tensor) -> Tensor:
        """Return points ``(I, n)`` at which the values of a function of the span determine its coefficients."""


class _Interval(NamedTuple):
    """Ends ``(I, 1)`` of the intervals; for linear continuation also the values' slopes at the ends, ``(I, n, 1)``."""

    low: Tensor
    high: Tensor
    slopes: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class IntervalBasis(Basis):
    """A basis of functions ``f_m(u)`` of ``u = 2 (x - low)/(high - low) - 1``; the rows of its grid are ``[low, high]``.

    A new basis derives from this class and defines `functions`; see the page on bases in the documentation.

    Args:
        size: number of functions ``n``.
        extrapolation: continuation outside of ``[low, high]``: ``"own"`` by ``f_m(u)`` itself, ``"constant"`` by its value at the nearer
            end, ``"linear"`` by its tangent there.
    """

    size: int = 8
    _: KW_ONLY
    extrapolation: Extrapolation = "own"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size, the number of functions of a basis, must be at least 1; got {self.size}.")
        check_extrapolation(self.extrapolation)

    @abstractmethod
    def functions(self, u: Tensor) -> Tensor:
        """Return the values ``(I, n, B)`` at `u` ``(I, B)``, computed by differentiable operations."""

    def initial_grid(self, in_features: int, low: float, high: float) -> Tensor:
        """``[low, high]`` for every input, ``(in_features, 2)``."""
        return torch.tensor([[low, high]], dtype=torch.float64).repeat(in_features, 1)

    def adapted_grid(self, samples: Tensor, grid: Tensor, margin: float = 0.0, grid_eps: float = 0.02) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest sample of every input, extended by `margin`; `grid_eps` is not used."""
        ends = torch.stack([samples.amin(0) - margin, samples.amax(0) + margin], dim=1).to(grid)
        usable = varies(samples.to(grid.dtype))
        return torch.where(usable[:, None], ends, grid), usable

    def prepare(self, grid: Tensor) -> _Interval:
        """Return the ends of the intervals and, for linear continuation, the slopes there."""
        if not composed() and (grid.dim() != 2 or grid.shape[1] != 2 or not bool((grid[:, 0] < grid[:, 1]).all())):
            raise ValueError(f"the grid of {self} must be [low, high] with low < high for every input; got {grid.tolist()}.")
        low, high = grid.detach().clone().split(1, dim=1)
        slopes = None
        if self.extrapolation == "linear":
            ends = torch.cat([low, high], dim=1)
            # Sums over the points, since a value depends on its own point only. Reverse mode: forward mode brings warnings of torch's own.
            found = torch.func.jacrev(lambda x: self.functions(_scaled(x, low, high)).sum((0, 2)))(ends)
            left, right = found.transpose(0, 1).split(1, dim=2)
            slopes = left, right
        return _Interval(low, high, slopes)

    def rows(self, x: Tensor, prepared: _Interval) -> Tensor:
        """Values of all functions, continued beyond the ends as `extrapolation` says."""
        low, high, slopes = prepared
        if self.extrapolation == "own":
            return self.functions(_scaled(x, low, high))
        # Not a clamp: a point on an end is an inner one, with the slope there.
        below, above = x < low, x > high
        values = self.functions(_scaled(torch.where(below, low, torch.where(above, high, x)), low, high))
        if slopes is None:
            return values
        return values + slopes[0] * torch.where(below, x - low, 0.0)[:, None] + slopes[1] * torch.where(above, x - high, 0.0)[:, None]

    def sites(self, grid: Tensor) -> Tensor:
        """Chebyshev points of each interval, ``(I, n)``."""
        angle = (torch.arange(self.size, dtype=grid.dtype, device=grid.device) + 0.5) * (torch.pi / self.size)
        low, high = grid.split(1, dim=1)
        points: Tensor = (low + high) / 2 - (high - low) / 2 * angle.cos()
        return points


def varies(samples: Tensor) -> Tensor:
    """Return for which columns of `samples` ``(B, I)`` the values differ by more than round-off, ``(I,)``."""
    low, high = samples.aminmax(dim=0)
    return high - low > 8 * torch.finfo(samples.dtype).eps * torch.maximum(low.abs(), high.abs())


def check_extrapolation(name: str) -> None:
    """Raise ``ValueError`` unless `name` is one of `EXTRAPOLATIONS`."""
    if name not in EXTRAPOLATIONS:
        raise unknown_name("extrapolation", name, EXTRAPOLATIONS)


def _scaled(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return (2 * x - (low + high)) / (high - low)
