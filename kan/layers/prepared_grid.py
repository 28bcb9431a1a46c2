"""What a basis works out about a grid, kept by a layer until the grid changes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kan.bases.base import Basis
from kan.bases.spline_table import SplineTable
from kan.devices import at_hand
from kan.modes import composed

__all__ = ["PreparedGrid"]


class PreparedGrid:
    """``basis.prepare(grid)`` of the last grid seen. A copy and a pickle of this start empty.

    Args:
        features: how many rows the grid is to have; any number when not given.
        widened: whether grids of two bytes a number are widened to float32 first.
    """

    def __init__(self, features: int | None = None, widened: bool = True) -> None:
        self._features, self._widened = features, widened
        self._grid: Tensor | None = None
        self._copy: Tensor | None = None
        self._version = -1
        self._basis: Basis | None = None
        self._part: tuple[Any, tuple[int, ...], Any] | None = None
        self._prepared: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> PreparedGrid:
        return PreparedGrid(self._features, self._widened)

    def __reduce__(self) -> tuple[type[PreparedGrid], tuple[int | None, bool]]:
        return PreparedGrid, (self._features, self._widened)

    def of(self, grid: Tensor, basis: Basis) -> Any:
        """``basis.prepare(grid)``.

        Raises:
            ValueError: if `grid` is not one row of numbers for every input, or not a grid of the basis.
        """
        if torch.compiler.is_compiling():
            return self._prepare(grid, basis)  # what is known may be of an older grid, and versions cannot be traced
        if composed():  # another tensor, perhaps one that is batched, may stand for the grid
            if self._grid is grid and self._version == grid._version and self._basis == basis:
                return self._prepared
            traced = torch._C._get_tracing_state()
            if traced is None or torch._C._are_functorch_transforms_active():
                return self._prepare(grid, basis)
            torch._C._set_tracing_state(None)  # type: ignore[attr-defined] # a trace holds it as constants, as it would after a first pass
            try:
                with torch.no_grad():
                    return self._prepare(grid.detach(), basis)
            finally:
                torch._C._set_tracing_state(traced)  # type: ignore[attr-defined]
        if self._basis != basis or not self._is_known(grid):
            with torch.inference_mode(False), torch.no_grad():  # to be of use outside of that mode, too
                self.keep(grid, basis, self._prepare(grid, basis))
        return self._prepared

    def keep(self, grid: Tensor, basis: Basis, prepared: Any) -> None:
        """Keep what was worked out about `grid` elsewhere."""
        self._prepared = prepared
        self._grid, self._version, self._copy, self._basis = grid, grid._version, grid.detach().clone(), basis

    def of_some(self, grid: Tensor, basis: Basis, inputs: tuple[int, ...]) -> Any:
        """As `of`, for some of the inputs; kept until others are asked for."""
        prepared = self.of(grid, basis)
        if self._part is None or self._part[0] is not prepared or self._part[1] != inputs:
            rows = list(inputs)
            self._part = prepared, inputs, self.of_inputs(rows).of(grid.detach()[rows], basis)
        return self._part[2]

    def shared(self) -> PreparedGrid:
        """One that knows what this one knows, for a copy of the layer; nothing ever writes into what was prepared."""
        twin = PreparedGrid()
        twin.__dict__.update(self.__dict__)
        return twin

    def of_inputs(self, inputs: list[int]) -> PreparedGrid:
        """One for some of the inputs, which knows of splines what this one knows."""
        part = PreparedGrid(None if self._features is None else len(inputs), self._widened)
        if isinstance(self._prepared, SplineTable) and self._copy is not None:
            part._copy, part._prepared, part._basis = self._copy[inputs], self._prepared.taken(inputs), self._basis
        return part

    def _prepare(self, grid: Tensor, basis: Basis) -> Any:
        if self._features is not None and (grid.dim() != 2 or len(grid) != self._features):  # a single row would pass for all of them
            raise ValueError(f"the grid must have one row for each of the {self._features} inputs; got the shape {tuple(grid.shape)}.")
        return basis.prepare(grid.float() if self._widened and grid.dtype in (torch.float16, torch.bfloat16) else grid)

    def _is_known(self, grid: Tensor) -> bool:
        if self._copy is None or self._copy.dtype != grid.dtype or self._copy.device != grid.device:
            return False
        return torch.equal(self._copy, grid) if at_hand(grid) else self._grid is grid and self._version == grid._version
