r"""Whether a formula computes what its network computes, on data.

The deviation at a sample is ``|f - y| / max(|y|, median |y|, 1e-6 max |y|)`` for each output: relative, but not to values that happen to be
near zero.
Both are computed in double precision, whatever the precision of the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kan.discovery.formulas.rounding import typical_size
from kan.network.network import Network

__all__ = ["TOLERANCE", "Agreement", "agreement"]

TOLERANCE = 1e-9
"""Deviations above are worth a warning."""

MOST_SAMPLES = 1000
"""More are thinned out evenly."""


@dataclass(frozen=True)
class Agreement:
    """A comparison of formula and network.

    Attributes:
        deviation: the largest, where both are finite.
        samples: how many samples were compared.
        formula_undefined: rows of the data where the network is finite and the formula is not.
        network_undefined: rows where it is the other way round, as in ``sqrt(x)**2``, which sympy takes for ``x``.
    """

    deviation: float
    samples: int
    formula_undefined: tuple[int, ...] = ()
    network_undefined: tuple[int, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the formula is the network, to `TOLERANCE`, wherever the network is finite."""
        return self.deviation <= TOLERANCE and not self.formula_undefined

    def __str__(self) -> str:
        text = f"formula and network differ by at most {self.deviation:.2g} (relative) on {self.samples} samples"
        for who, other, rows in (
            ("the formula", "network", self.formula_undefined), ("the network", "formula", self.network_undefined),
        ):  # fmt: skip
            if rows:
                few = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
                text += f"; {who} is not finite at {len(rows)} of them, where the {other} is (rows {few})"
        return text


@torch.no_grad()
def agreement(
    network: Network,
    formulas: Callable[[list[Tensor]], Sequence[Any]],
    data: Tensor,
    normalizer: Sequence[Tensor] | None = None,
    output_normalizer: Sequence[Tensor] | None = None,
) -> Agreement:
    """Compare the formulas of the outputs with the layers of their network.

    Args:
        network: the network; it is not changed.
        formulas: takes the columns of the inputs that are used, and gives a tensor, or a number, for each output.
        data: ``(N, columns)``, what the layers are given.
        normalizer: ``(mean, std)`` of the inputs, ``(inputs,)`` each: the formula takes ``x std + mean``.
        output_normalizer: ``(mean, std)`` of the outputs, likewise: the formula gives ``y std + mean``.

    Raises:
        TypeError: if `data` is no tensor of floating-point numbers.
        ValueError: if it has another shape.
    """
    network.checked_input(data)
    rows = torch.arange(0, len(data), max(1, -(-len(data) // MOST_SAMPLES)), device=data.device)
    if network.dtype != torch.float64:
        network = copy.deepcopy(network, {id(network.last_input): None}).double()
    x = data[rows].to(device=network.device, dtype=torch.float64)
    columns = x[:, network.input_id]
    if normalizer is not None:
        mean, std = (part.to(x) for part in normalizer)
        columns = columns * std + mean
        x = x.index_copy(1, network.input_id, (columns - mean) / std)  # what is seen through rounding both ways
    y = network.layer_trace(x).output.cpu()
    if output_normalizer is not None:
        mean, std = (part.to(y) for part in output_normalizer)
        y = y * std + mean
    found = formulas(list(columns.cpu().unbind(1)))
    f = torch.stack([torch.zeros(len(y), dtype=y.dtype) + value for value in found], dim=1)

    here, there = torch.isfinite(f), torch.isfinite(y)
    both = here & there
    typical = torch.stack([typical_size(column[finite].abs()) for column, finite in zip(y.unbind(1), there.unbind(1), strict=True)])
    difference, size = (f - y).abs(), torch.maximum(y.abs(), typical)
    off = torch.where(difference > 0, difference / size, 0.0)[both]
    missing, extra = ((wrong.any(dim=1)).nonzero()[:, 0] for wrong in (there & ~here, here & ~there))
    rows = rows.cpu()
    return Agreement(float(off.max()) if len(off) else 0.0, len(rows), tuple(rows[missing].tolist()), tuple(rows[extra].tolist()))
