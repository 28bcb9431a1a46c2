"""The arithmetic of a whole network in training, behind one interface, so that something other than torch can do it.

The functions here are composed of the arithmetic of single layers, `kan.network.layer_pass.LayerArithmetic`, which can be replaced too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor

from kan.network.layer_pass import Guard, LayerParts, LayerPass, Sensitivity
from kan.solvers.lbfgs import Program
from kan.solvers.levenberg_marquardt import Chunk, normal_equations
from kan.training.least_squares.coordinates import Columns
from kan.training.objectives import compiled
from kan.training.objectives.closed_form import ClosedForm, Problem, Value, value_and_gradients
from kan.training.objectives.compiled import LeastSquares

__all__ = ["BACK_END", "BackEnd"]


class BackEnd(Protocol):
    """The computations that training asks for when a network has a closed form. `BACK_END` is the one in use."""

    def value_and_gradients(self, problem: Problem, wanted: Sequence[bool]) -> tuple[Value, list[Tensor | None]]:
        """The objective, and the gradients of those of `ClosedForm.parameters` that are wanted; None for the others."""

    def keeps_features(self, form: ClosedForm, x: Tensor, penalised: bool) -> bool:
        """Whether the first layer's features at `x` need not be given, since they are kept from call to call anyway."""

    def nodes(self, form: ClosedForm, x: Tensor, guard: Guard) -> Tensor:
        """The network's last nodes ``(B, K)`` at inputs ``(B, inputs)``."""

    def descent(self, problem: Problem, trained: Sequence[Tensor]) -> Program | None:
        """The iterations of L-BFGS on the `trained` parameters as a whole; None if there is nothing faster than a loop over evaluations."""

    def least_squares(self, problem: Problem, columns: Columns) -> LeastSquares | None:
        """The sum of squares of a problem, and its normal equations without a Jacobian; None if the Jacobian is to be computed."""

    def jacobian(
        self, columns: Columns, layers: Sequence[LayerParts], passes: Sequence[LayerPass], back: Sequence[Sensitivity]
    ) -> Tensor:
        """The transposed Jacobian ``(P, K, B)`` of K quantities of B samples, see `Columns.write`."""

    def normal_equations(self, chunks: Iterable[Chunk], size: int) -> tuple[Tensor, Tensor]:
        """``J'J`` ``(P, P)`` and ``J'r`` ``(P,)`` from the chunks of a Jacobian with `size` coordinates."""


class _CompiledBackEnd:
    """The compiled kernels where they know all parts of a network, and torch elsewhere."""

    def value_and_gradients(self, problem: Problem, wanted: Sequence[bool]) -> tuple[Value, list[Tensor | None]]:
        found = compiled.value_and_gradients(problem, wanted)
        if found is None:
            value, gradients = value_and_gradients(problem, wanted)
            # The clones are ordinary tensors, unlike what was computed in inference mode.
            found = Value(*(number.clone() for number in value)), [None if g is None else g.clone() for g in gradients]
        return found

    def keeps_features(self, form: ClosedForm, x: Tensor, penalised: bool) -> bool:
        return compiled.knows(form, x, penalised)

    def nodes(self, form: ClosedForm, x: Tensor, guard: Guard) -> Tensor:
        found = compiled.nodes(form, x)
        return form.nodes(x, guard) if found is None else found

    def descent(self, problem: Problem, trained: Sequence[Tensor]) -> Program | None:
        return compiled.descent(problem, trained)

    def least_squares(self, problem: Problem, columns: Columns) -> LeastSquares | None:
        return compiled.least_squares(problem, columns)

    def jacobian(
        self, columns: Columns, layers: Sequence[LayerParts], passes: Sequence[LayerPass], back: Sequence[Sensitivity]
    ) -> Tensor:
        return columns.write(layers, passes, back)

    def normal_equations(self, chunks: Iterable[Chunk], size: int) -> tuple[Tensor, Tensor]:
        return normal_equations(chunks, size)


BACK_END: BackEnd = _CompiledBackEnd()
"""The back end that training uses."""
