r"""Problems of symbolic regression: a formula to be recovered, and the ranges of its variables.

Samples are uniform in the ranges. The noise is that of SRBench,

.. math:: y_i = f(x_i) + \sigma \, \mathrm{RMS}(f(x)) \, \varepsilon_i, \qquad \varepsilon_i \sim N(0, 1),

with the root mean square over the samples. Points at which the formula has no finite real value are drawn again.

Source
    W. La Cava et al., "Contemporary symbolic regression methods and their relative performance", 2021, arXiv:2107.14351.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kan.datasets.expression import TorchFormula, parsed, symbol_table

if TYPE_CHECKING:
    import sympy

__all__ = ["Problem", "Sample"]

MIN_ACCEPTED_SHARE = 0.01
"""Smallest share of the drawn points at which the formula must have a finite real value; with less, sampling is abandoned."""


class Sample(NamedTuple):
    """Samples of a problem.

    Attributes:
        x: points ``(N, n)``.
        y: values ``(N, 1)``, with noise if requested.
        rejected: number of points that were drawn again because the formula has no finite real value there.
    """

    x: Tensor
    y: Tensor
    rejected: int


@dataclass(frozen=True)
class Problem:
    """A formula, its variables and their ranges.

    Args:
        name: a name, unique in the set of problems.
        formula: the right-hand side, as text for `kan.datasets.expression.parsed`.
        variables: names in the order of the columns; ``lambda_`` stands for ``lambda``.
        ranges: ``(low, high)`` of each variable.
        functions: functions of tensors by name, for functions in the formula that are not elementary. Such a problem has no elementary
            closed form.

    Raises:
        ValueError: if a variable has no finite range, or names repeat.

    >>> problem = Problem("I.29.4", "omega/c", ("omega", "c"), ((1, 10), (1, 10)))
    >>> problem.expression()
    omega/c
    >>> x, y, rejected = problem.sample(5, seed=1)
    >>> x.shape, y.shape, rejected
    (torch.Size([5, 2]), torch.Size([5, 1]), 0)
    """

    name: str
    formula: str
    variables: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    functions: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.ranges) != len(self.variables) or len(set(self.variables)) != len(self.variables):
            raise ValueError(
                f"{self.name}: expected one range for each variable, and no variable twice; got the variables "
                f"{', '.join(self.variables)} and {len(self.ranges)} range(s)."
            )
        for variable, (low, high) in zip(self.variables, self.ranges, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{self.name}: the range of {variable} must be two finite numbers, low < high; got {(low, high)}.")

    @property
    def closed_form(self) -> bool:
        """Whether the formula consists of elementary functions, so that it can be recovered."""
        return not self.functions

    def symbols(self) -> tuple[sympy.Symbol, ...]:
        """The variables in the order of the columns."""
        return tuple(symbol_table(self.variables).values())

    def expression(self) -> sympy.Expr:
        """The formula as an expression of the `symbols`."""
        return parsed(self.formula, symbol_table(self.variables), self.functions)

    def function(self) -> TorchFormula:
        """The formula as a function from a tensor ``(N, n)`` to a tensor ``(N, 1)``."""
        return TorchFormula(self.expression(), self.symbols(), self.functions)

    def widened(self, factor: float) -> Problem:
        """Return the same formula with ranges that are `factor` times as wide, about the same centres.

        >>> Problem("square", "x**2", ("x",), ((1, 3),)).widened(1.5).ranges
        ((0.5, 3.5),)
        """
        middle = [((low + high) / 2, factor * (high - low) / 2) for low, high in self.ranges]
        return replace(self, ranges=tuple((centre - half, centre + half) for centre, half in middle))

    def sample(self, count: int, seed: int = 0, noise: float = 0.0, dtype: torch.dtype = torch.float64) -> Sample:
        """Draw points uniformly in the ranges, with the values there.

        Args:
            count: number of points N.
            seed: seed of a private generator. The points do not depend on `noise`.
            noise: standard deviation of the noise, relative to the root mean square of the values.
            dtype: type of the data, which are computed in float64.

        Raises:
            ValueError: if `count` or `noise` is out of range, or if hardly any point has a finite real value.
        """
        if count < 1 or not 0 <= noise < math.inf:
            raise ValueError(f"expected a positive count and a finite noise of at least 0; got {count} and {noise}.")
        generator = torch.Generator().manual_seed(seed)
        f = self.function()
        low, high = torch.tensor(self.ranges, dtype=torch.float64).T
        points, values, drawn, kept = [], [], 0, 0
        while kept < count:
            x = low + (high - low) * torch.rand(max(count - kept, 16), len(low), generator=generator, dtype=torch.float64)
            y = f(x)
            good = torch.isfinite(y[:, 0])
            points.append(x[good])
            values.append(y[good])
            drawn, kept = drawn + len(x), kept + int(good.sum())
            if drawn >= 1000 and kept < MIN_ACCEPTED_SHARE * drawn:
                where = ", ".join(f"{variable} in {pair}" for variable, pair in zip(self.variables, self.ranges, strict=True))
                raise ValueError(
                    f"{self.name}: {self.formula} has a finite real value at {kept} of {drawn} points only, with {where}; give ranges "
                    f"inside its domain."
                )
        x, y = torch.cat(points)[:count], torch.cat(values)[:count]
        if noise:
            # The noise has a generator of its own, so that the points are the same for every level of noise.
            noise_generator = torch.Generator().manual_seed(seed + 1_000_003)
            y = y + noise * y.square().mean().sqrt() * torch.randn(y.shape, generator=noise_generator, dtype=torch.float64)
        return Sample(x.to(dtype), y.to(dtype), drawn - kept)
