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
from dataclasses import KW_ONLY, dataclass, fields, is_dataclass, replace
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from kan.bases.slopes import Slopes, derivatives
from kan.devices import at_hand
from kan.errors import unknown_name
from kan.modes import composed

__all__ = ["EXTRAPOLATIONS", "Basis", "Extrapolation", "IntervalBasis", "check_extrapolation", "varies"]

Extrapolation = Literal["own", "linear", "constant"]
"""Behaviour of the functions outside of their interval: their own values, or a continuation from its ends by tangents or constants."""

Self = TypeVar("Self", bound="Basis")

EXTRAPOLATIONS: tuple[Extrapolation, ...] = ("own", "linear", "constant")


def _inherit_together(cls: type[Basis], slow: str, fast: str, base: type[Any]) -> None:
    """Give `cls` the method `fast` of `base` if a class in front of the one that defines `fast` defines `slow` anew."""
    order = [[name in parent.__dict__ for parent in cls.__mro__].index(True) for name in (slow, fast)]
    if order[0] < order[1]:
        setattr(cls, fast, base.__dict__[fast])


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

    def ends(self, grid: Tensor) -> Tensor:
        """Ends ``(I, 2)`` of the intervals that the functions are made for; those of the `sites` unless a basis knows better."""
        return torch.stack(self.sites(grid).aminmax(dim=1), dim=1)

    def resized(self: Self, intervals: int, degree: int) -> Self:
        """The basis of the same kind with ``intervals + degree`` functions.

        Raises:
            ValueError: if there is none.
        """
        size = intervals + degree
        if size == self.size:
            return self
        if not (is_dataclass(self) and "size" in (field.name for field in fields(self))):
            raise ValueError(
                f"{self} has {self.size} functions, and {size} are asked for: give the class a field size, or a method "
                f"resized(intervals, degree) that returns a basis with intervals + degree functions."
            )
        return replace(self, size=size)

    def refined_grid(self, grid: Tensor, other: Basis) -> Tensor:
        """The grid of `other`, a basis of the same kind with another number of functions, on the intervals of `grid`, ``(I, P')``."""
        rows = [other.initial_grid(1, low, high) for low, high in self.ends(grid).tolist()]
        return torch.cat(rows).to(grid)

    def write_rows(self, rows: Tensor, x: Tensor, prepared: Any, *, slopes: bool) -> Slopes | None:
        """Write the values at `x` into the last ``n`` of `rows`, without a graph; `rows` need not be initialised.

        This is what training calls, with derivatives in closed form where the basis has them. Here they come from `rows` by autograd, and
        a subclass that defines `rows` anew but not this method gets this one.

        Args:
            rows: ``(I, lead + n, B)``, contiguous. The first ``lead`` rows of every input are the caller's, to be written afterwards.
            x: ``(I, B)``.
            prepared: from `prepare`.
            slopes: whether the derivatives are wanted, too.

        Returns:
            The derivatives, if they are wanted.
        """
        functions = rows[:, rows.shape[1] - self.size :]
        if not slopes:
            with torch.no_grad():
                functions.copy_(self.rows(x.detach(), prepared))
            return None
        # A tensor of inference mode records nothing, hence the clone.
        with torch.inference_mode(False), torch.enable_grad():
            points = x.detach().clone().requires_grad_()
            values = self.rows(points, prepared)
            found = derivatives(values, points)
        functions.copy_(values.detach())
        return Slopes(found)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _inherit_together(cls, "rows", "write_rows", Basis)


class _Interval(NamedTuple):
    """Ends ``low`` and ``high`` of the intervals, with which ``u = factor (x - middle)``, ``(I, 1)`` each.

    For linear continuation there are also the slopes of all functions at either end, ``(I, n, 1)`` each.
    """

    low: Tensor
    high: Tensor
    middle: Tensor
    factor: Tensor
    slopes: tuple[Tensor, Tensor] | None = None

    def scaled(self, x: Tensor) -> Tensor:
        """``u`` at `x` ``(I, B)``."""
        return (x - self.middle) * self.factor


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
        interval = _Interval(low, high, (low + high) / 2, 2 / (high - low))
        if self.extrapolation == "linear":
            ends = torch.cat([low, high], dim=1)
            # Sums over the points, since a value depends on its own point only. Reverse mode: forward mode brings warnings of torch's own.
            found = torch.func.jacrev(lambda x: self.functions(interval.scaled(x)).sum((0, 2)))(ends)
            left, right = found.transpose(0, 1).split(1, dim=2)
            interval = interval._replace(slopes=(left, right))
        return interval

    def rows(self, x: Tensor, prepared: _Interval) -> Tensor:
        """Values of all functions, continued beyond the ends as `extrapolation` says."""
        if self.extrapolation == "own":
            return self.functions(prepared.scaled(x))
        low, high, slopes = prepared.low, prepared.high, prepared.slopes
        # Not a clamp: a point on an end is an inner one, with the slope there.
        below, above = x < low, x > high
        values = self.functions(prepared.scaled(torch.where(below, low, torch.where(above, high, x))))
        if slopes is None:
            return values
        return values + slopes[0] * torch.where(below, x - low, 0.0)[:, None] + slopes[1] * torch.where(above, x - high, 0.0)[:, None]

    def write_rows(self, rows: Tensor, x: Tensor, prepared: _Interval, *, slopes: bool) -> Slopes | None:
        """See `Basis.write_rows`; the values and derivatives are those of `write_functions`, continued beyond the ends."""
        x, values, kept = x.detach(), rows[:, rows.shape[1] - self.size :], self.extrapolation == "own"
        found = x.new_empty(values.shape) if slopes else None
        inner = x if kept else torch.minimum(torch.maximum(x, prepared.low), prepared.high)
        self.write_functions(prepared.scaled(inner), values, found)
        if found is not None:
            found.mul_(prepared.factor[:, None])
        if not kept and not (at_hand(x) and torch.equal(x, inner)):
            beyond = x - inner
            if prepared.slopes is not None:  # the derivatives at the inner points, which are the ends here, are the right ones already
                values.addcmul_(prepared.slopes[0], beyond.clamp(max=0)[:, None]).addcmul_(prepared.slopes[1], beyond.clamp(min=0)[:, None])
            elif found is not None:
                found.mul_((beyond == 0)[:, None])
        return None if found is None else Slopes(found)

    def write_functions(self, u: Tensor, values: Tensor, slopes: Tensor | None) -> None:
        """Write `functions` at `u` into `values` and, if `slopes` are given, their derivatives into these, without a graph.

        Here the derivatives come from `functions` by autograd. A class may define this method to give them in closed form, in fewer
        operations; a subclass that then defines `functions` anew, but not this method, gets autograd again.

        Args:
            u: ``(I, B)``.
            values: ``(I, n, B)``, whose last axis is contiguous.
            slopes: for the derivatives with respect to `u`, ``(I, n, B)``, contiguous; or None.
        """
        if slopes is None:
            with torch.no_grad():
                values.copy_(self.functions(u))
            return
        with torch.inference_mode(False), torch.enable_grad():
            points = u.clone().requires_grad_()
            found = self.functions(points)
            steep = derivatives(found, points)
        slopes.copy_(steep)  # outside: the target may be an inference tensor
        values.copy_(found.detach())

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _inherit_together(cls, "functions", "write_functions", IntervalBasis)

    def ends(self, grid: Tensor) -> Tensor:
        """The grid itself."""
        return grid

    def refined_grid(self, grid: Tensor, other: Basis) -> Tensor:
        """The same intervals."""
        return grid.clone()

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
