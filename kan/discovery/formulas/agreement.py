r"""Comparison of a formula with its network on data.

For each output and sample, the deviation of the value ``f`` of the formula from the value ``y`` of the network is
``|f - y| / max(|y|, median |y|, 1e-6 max |y|)``. It is relative, but not to values near zero. Both values are computed in double precision,
whatever the precision of the network.
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

__all__ = ["MAX_DEVIATION", "Agreement", "agreement"]

MAX_DEVIATION = 1e-9
"""Largest deviation, see the head of this file, with which a formula counts as equal to its network; a larger one is a warning."""

MAX_COMPARED_SAMPLES = 1000
"""Largest number of samples that are compared; of more, evenly spaced ones are used."""


@dataclass(frozen=True)
class Agreement:
    """The result of a comparison of a formula with its network.

    Attributes:
        deviation: the largest deviation among the samples where both are finite.
        samples: number of samples that were compared.
        formula_undefined: rows of the data where the network is finite and the formula is not.
        network_undefined: rows of the data where the formula is finite and the network is not. An example is ``sqrt(x)**2`` at negative
            ``x``, which sympy simplifies to ``x``.
    """

    deviation: float
    samples: int
    formula_undefined: tuple[int, ...] = ()
    network_undefined: tuple[int, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the formula equals the network, up to `MAX_DEVIATION`, wherever the network is finite."""
        return self.deviation <= MAX_DEVIATION and not self.formula_undefined

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
        network: the network, which is not changed.
        formulas: a function that takes the list of the input columns that the network uses, and returns a tensor or a number for each
            output.
        data: inputs of the layers, ``(N, columns)``.
        normalizer: ``(mean, std)`` of the inputs, ``(inputs,)`` each, if the formula is one in ``x std + mean``.
        output_normalizer: ``(mean, std)`` of the outputs, ``(outputs,)`` each, if the formula is one for ``y std + mean``.

    Raises:
        TypeError: if `data` is not a tensor of floating-point numbers.
        ValueError: if `data` has another shape.
    """
    network.checked_input(data)
    rows = torch.arange(0, len(data), max(1, -(-len(data) // MAX_COMPARED_SAMPLES)), device=data.device)
    if network.dtype != torch.float64:
        network = copy.deepcopy(network, {id(network.last_input): None}).double()
    x = data[rows].to(device=network.device, dtype=torch.float64)
    columns = x[:, network.input_id]
    if normalizer is not None:
        mean, std = (part.to(x) for part in normalizer)
        columns = columns * std + mean
        x = x.index_copy(1, network.input_id, (columns - mean) / std)  # so that both sides see the same rounding
    y = network.layer_trace(x).output.cpu()
    if output_normalizer is not None:
        mean, std = (part.to(y) for part in output_normalizer)
        y = y * std + mean
    found = formulas(list(columns.cpu().unbind(1)))
    f = torch.stack([torch.zeros(len(y), dtype=y.dtype) + value for value in found], dim=1)

    in_formula, in_network = torch.isfinite(f), torch.isfinite(y)
    typical = torch.stack([typical_size(column[finite].abs()) for column, finite in zip(y.unbind(1), in_network.unbind(1), strict=True)])
    difference, size = (f - y).abs(), torch.maximum(y.abs(), typical)
    deviations = torch.where(difference > 0, difference / size, 0.0)[in_formula & in_network]
    undefined = (rows.cpu()[wrong.any(dim=1)] for wrong in (in_network & ~in_formula, in_formula & ~in_network))
    return Agreement(float(deviations.max()) if len(deviations) else 0.0, len(rows), *(tuple(wrong.tolist()) for wrong in undefined))
