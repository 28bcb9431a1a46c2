"""The arithmetic of a whole network on some samples: the one place behind which it can be done by something else than torch.

The arithmetic of a single layer has a place of its own, `kan.network.layer_pass.LayerArithmetic`, which the functions here are made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor

from kan.network.layer_pass import LayerParts, LayerPass, Sensitivity
from kan.solvers.levenberg_marquardt import Chunk, normal_equations
from kan.training.least_squares.coordinates import Columns
from kan.training.objectives.closed_form import Problem, Value, value_and_gradients

__all__ = ["BACK_END", "BackEnd"]


class BackEnd(Protocol):
    """What training asks of a network that has a closed form. `BACK_END` is what is used."""

    def value_and_gradients(self, problem: Problem, wanted: Sequence[bool]) -> tuple[Value, list[Tensor | None]]:
        """The objective, and the gradients of those of the form's parameters that are wanted."""

    def jacobian(
        self, columns: Columns, layers: Sequence[LayerParts], passes: Sequence[LayerPass], back: Sequence[Sensitivity]
    ) -> Tensor:
        """The transposed Jacobian ``(P, K, B)`` of K quantities of B samples, see `Columns.write`."""

    def normal_equations(self, chunks: Iterable[Chunk], size: int) -> tuple[Tensor, Tensor]:
        """``J'J`` ``(P, P)`` and ``J'r`` ``(P,)`` from the chunks of a Jacobian with `size` coordinates."""


class _TorchBackEnd:
    def value_and_gradients(self, problem: Problem, wanted: Sequence[bool]) -> tuple[Value, list[Tensor | None]]:
        return value_and_gradients(problem, wanted)

    def jacobian(
        self, columns: Columns, layers: Sequence[LayerParts], passes: Sequence[LayerPass], back: Sequence[Sensitivity]
    ) -> Tensor:
        return columns.write(layers, passes, back)

    def normal_equations(self, chunks: Iterable[Chunk], size: int) -> tuple[Tensor, Tensor]:
        return normal_equations(chunks, size)


BACK_END: BackEnd = _TorchBackEnd()
"""The back end that training uses: operations of torch."""
