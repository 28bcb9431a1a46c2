"""The result of `KAN.symbolic_formula`: pykan's pair of lists, compared with the network, and available as text, LaTeX and code."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from kan.discovery.formulas.agreement import MAX_DEVIATION, Agreement, agreement
from kan.discovery.formulas.composition import Composition, stated_normalizers, symbolic_formula
from kan.discovery.formulas.python_code import python_source, to_numpy, to_torch
from kan.discovery.formulas.rounding import as_text, ex_round, shown, without_round_off
from kan.discovery.formulas.simplification import simplified
from kan.discovery.formulas.straight_line import Program
from kan.network.network import Network
from kan.network.user_code.observed import observed, seen_by_layers
from kan.network.user_code.own_code import own_call, own_parts
from kan.symbolic.latex import latex, latex_name

__all__ = ["NetworkFormula", "network_formula"]

MAX_ADDED_DEVIATION = 1e-12
"""Largest increase of the deviation from the network with which the removal of terms of round-off size is accepted. It is not 0, since
functions can amplify round-off."""


class NetworkFormula(tuple[list[Any], list[Any]]):
    """The formulas of the outputs and the input variables as pykan returns them, the pair ``(outputs, inputs)``.

    The expressions have all digits. Printed, and as the last line of a notebook cell, the formulas have six significant digits.

    Attributes:
        composition: the expressions of all nodes, and the functions in them that sympy does not know.
        agreement: the comparison with the network; None without data.
        notes: sentences about steps that failed.
        out_vars: the names of the outputs.

    Example:
        >>> import sympy
        >>> from kan.compiler import kanpiler
        >>> x_1, x_2 = sympy.symbols("x_1 x_2")
        >>> formula = kanpiler([x_1, x_2], x_1 * sympy.sin(x_2)).symbolic_formula()
        >>> print(formula.text())
        y = x_1*sin(x_2)
    """

    composition: Composition
    agreement: Agreement | None
    notes: list[str]
    out_vars: list[str]

    @property
    def outputs(self) -> list[Any]:
        """The formulas of the outputs."""
        return self[0]

    @property
    def inputs(self) -> list[Any]:
        """The input variables, or the expressions that were given in their place."""
        return self[1]

    @property
    def deviation(self) -> float | None:
        """The largest relative deviation from the network; None without data."""
        return None if self.agreement is None else self.agreement.deviation

    @property
    def functions(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The curves of numeric edges and the functions of `add_symbolic`, by their names in the formulas."""
        return self.composition.functions

    @property
    def variables(self) -> list[Any]:
        """The symbols of the inputs, each once, in the order in which functions and source code take them as arguments."""
        found = [symbol for entry in self.inputs for symbol in sorted(entry.free_symbols, key=str)]
        return list(dict.fromkeys(found))

    def text(self, digits: int | None = None) -> str:
        """A line ``name = formula`` per output, with six significant digits, or rounded by `ex_round` to `digits` after the point."""
        return "\n".join(f"{name} = {as_text(formula)}" for name, formula in self._named(digits))

    def __repr__(self) -> str:
        return self.text()

    __str__ = __repr__

    def latex(self, digits: int | None = None) -> str:
        """The formulas in LaTeX, one line per output; see `kan.symbolic.latex`."""
        return "\n".join(f"{latex_name(name)} = {latex(formula)}" for name, formula in self._named(digits))

    def _repr_latex_(self) -> str:
        lines = r" \\ ".join(line.replace("=", "&=", 1) for line in self.latex().splitlines())
        return rf"$\displaystyle \begin{{aligned}}{lines}\end{{aligned}}$"

    def python(self, backend: str = "numpy", name: str = "formula") -> str:
        """Source code of a function of the `variables`, which returns a tuple if there are several outputs; see `python_source`."""
        return python_source(self._content(), self.variables, backend, name=name, functions=self.functions)

    def to_numpy(self) -> Callable[..., Any]:
        """A function of one array per variable, which returns a tuple if there are several outputs; see `python_code.to_numpy`."""
        return to_numpy(self._content(), self.variables, self.functions)

    def to_torch(self) -> Callable[..., Any]:
        """A differentiable function of one tensor per variable, which returns a tuple if there are several outputs."""
        return to_torch(self._content(), self.variables, self.functions)

    def _content(self) -> Any:
        return self.outputs[0] if len(self.outputs) == 1 else self.outputs

    def _named(self, digits: int | None) -> list[tuple[str, Any]]:
        formulas = [shown(formula) if digits is None else ex_round(formula, digits) for formula in self.outputs]
        return list(zip(self.out_vars, formulas, strict=True))


def network_formula(
    network: Network,
    var: Sequence[Any] | None = None,
    normalizer: Sequence[Any] | None = None,
    output_normalizer: Sequence[Any] | None = None,
    *,
    numeric: Literal["raise", "function"] = "raise",
    simplify: bool = False,
    time_limit: float = 10.0,
    data: Tensor | None = None,
) -> NetworkFormula:
    """The formula of a network, compared with the network on data.

    Args:
        network, var, normalizer, output_normalizer, numeric: see `symbolic_formula`.
        simplify: simplify the formulas by ``sympy.simplify``. A form that is not ready in time, or deviates from the network, is
            rejected with a warning, which is also among the `notes`.
        time_limit: time limit of the simplification in seconds.
        data: inputs of the network, ``(N, columns)``; its last input when not given.

    Raises:
        TypeError, ValueError: as `symbolic_formula`, or for bad data.

    Warns:
        UserWarning: if the formula deviates from the network by more than `MAX_DEVIATION`, or is not finite where the network is. The
            cause is either cancellation in the formula, or a function whose expression is that of another function.
    """
    composition = symbolic_formula(network, var, normalizer, output_normalizer, numeric)
    columns: list[Tensor] = []
    checked = _comparison(network, composition, normalizer, output_normalizer, numeric, data, columns)
    notes: list[str] = []
    found = checked(composition, notes)
    cleaned = _with_outputs(composition, without_round_off(composition.outputs, composition.inputs, columns, composition.functions))
    if cleaned.outputs != composition.outputs:
        after = checked(cleaned, [])
        if found is None or (after is not None and after.holds >= found.holds and after.deviation <= found.deviation + MAX_ADDED_DEVIATION):
            composition, found = cleaned, after
    own = own_parts(network)
    if found is not None and not found.holds:
        reason = f" The formula knows nothing of your own code: {'; '.join(own)}." if own else ""
        warnings.warn(f"{found}; expected at most {MAX_DEVIATION:g}, and finite values.{reason}", stacklevel=3)
    elif own and normalizer is None and output_normalizer is None and not _as_its_layers(network):
        warnings.warn(
            f"the formula is that of the layers and of what they are given, and not of model(x): it knows nothing of your own code, "
            f"{'; '.join(own)}. Where that standardises columns, say so with normalizer=[means, deviations], or output_normalizer=.",
            stacklevel=3,
        )
    if simplify:
        outputs, remarks = simplified(composition.outputs, time_limit)
        simpler = _with_outputs(composition, outputs)
        after = checked(simpler, notes)
        if after is not None and found is not None and not after.holds and (found.holds or after.deviation > found.deviation):
            remarks = [f"not simplified: sympy's simpler form is not the network ({after})."]
        else:
            composition, found = simpler, after
        for remark in remarks:
            warnings.warn(remark, stacklevel=3)
        notes += remarks
    formula = NetworkFormula((composition.outputs, composition.inputs))
    formula.composition, formula.agreement, formula.notes = composition, found, notes
    outputs_count = len(composition.outputs)
    formula.out_vars = network.out_vars or (["y"] if outputs_count == 1 else [f"y_{number + 1}" for number in range(outputs_count)])
    return formula


def _with_outputs(composition: Composition, outputs: list[Any]) -> Composition:
    """The composition with the expressions of its outputs replaced."""
    return composition._replace(outputs=outputs, nodes=[*composition.nodes[:-1], outputs])


@torch.no_grad()
def _as_its_layers(network: Network) -> bool:
    """Whether user code leaves the outputs of the layers on the last input unchanged."""
    x = network.last_input
    if not own_call(network):
        return True
    if x is None:
        return False
    try:
        return torch.equal(observed(network, x).output, network.layer_trace(x).output)
    except Exception:  # the user's own code may want other columns
        return False


def _comparison(
    network: Network,
    composition: Composition,
    normalizer: Any,
    output_normalizer: Any,
    numeric: Any,
    data: Tensor | None,
    columns: list[Tensor],
) -> Callable[[Composition, list[str]], Agreement | None]:
    """A function that compares a composition with the network.

    It takes a composition, which may differ from the given one in its outputs only, and a list, to which it adds a note if the comparison
    is impossible. During the comparison of the given one, `columns` receives the values of the formula's variables on the data.
    """
    if data is not None:
        data = seen_by_layers(network, data)
    else:
        data = network.last_input
        if data is None or data.dim() != 2 or data.shape[1] != network.input_width or len(data) == 0:
            return lambda candidate, notes: None
    normalizer, output_normalizer = stated_normalizers(network, normalizer, output_normalizer)
    pairs = [
        None if pair is None else [torch.tensor([float(number) for number in part], dtype=torch.float64) for part in pair]
        for pair in (normalizer, output_normalizer)
    ]
    points = data

    def compared(candidate: Composition, notes: list[str]) -> Agreement | None:
        symbols = candidate.inputs
        if not all(symbol.is_Symbol for symbol in symbols) or len(set(symbols)) < len(symbols):
            # The inputs are expressions of other variables, whose values are not known. The same formula in new symbols is compared.
            if candidate is not composition:
                return None
            new_symbols = [f"x_{number + 1}" for number in range(len(symbols))]
            candidate = symbolic_formula(network, new_symbols, normalizer, output_normalizer, numeric)
        try:
            program = Program.of(candidate.outputs, candidate.inputs, candidate.functions)
        except ValueError as error:  # a function that sympy alone knows
            notes.append(f"not compared with the network: {error}")
            return None

        def evaluated(given: list[Tensor]) -> list[Any]:
            if candidate is composition:
                columns[:] = given
            return program.evaluated(given)

        return agreement(network, evaluated, points, *pairs)

    return compared
